"""Where people find what a step wrote for them: pages must outlast the disk of the container that it ran in."""

import os
from collections.abc import Iterable
from pathlib import Path

from components.patience import RUN_VARIABLE
from components.storage import open_store


def lasting(store_uri: str, prefix: str, page: Path, beside: Iterable[Path] = ()) -> str:
    """Give where a page is found later: where it lies, or, of a step in a container, in the store.

    Args:
        store_uri: Object store that the step works on.
        prefix: Of the keys in it; the page's name comes after it.
        page: What people open.
        beside: Files that it refers to, or that say the same to machines.

    Raises:
        StorageError: if the store cannot be written.
    """
    if RUN_VARIABLE not in os.environ:
        return str(page)
    store = open_store(store_uri)
    for path in (*beside, page):
        store.write(f"{prefix}/{path.name}", path)
    return f"{store.uri}/{prefix}/{page.name}"
