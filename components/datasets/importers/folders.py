"""An ImageFolder tree: each image's folder is named after its class."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import PurePosixPath
from typing import ClassVar

from components.culture import ConfluenceClass
from components.datasets.importers.cells import parse_class
from components.datasets.importers.layout import Fact, Layout, Listing
from components.errors import DataError
from components.storage import ObjectStore


@lru_cache(maxsize=1024)
def class_of_folder(folder: str) -> ConfluenceClass | None:
    """Give the class that a folder's path names in its deepest part that names one, if any does."""
    for part in reversed(PurePosixPath(folder).parts):
        try:
            return parse_class(part)
        except ValueError:
            continue
    return None


class ClassFolders(Layout):
    """Folders ``1`` to ``4``, or the decisions' names (``media_change``), anywhere in the tree."""

    name: ClassVar[str] = "folders"

    def recognises(self, source: ObjectStore, listing: Listing) -> bool:
        """See ``Layout``."""
        del source
        return any(class_of_folder(folder) or _unknown_class(folder) for folder in listing.image_folders())

    def facts(self, source: ObjectStore, listing: Listing) -> Iterator[Fact]:
        """See ``Layout``."""
        del source
        for folder in listing.image_folders():
            if class_of_folder(folder) is None and _unknown_class(folder):
                raise DataError(f"folder '{folder}' is not named after a class from 1 to 4; rename it or move it away")
        for key in listing.image_keys():
            label = class_of_folder(key.rpartition("/")[0])
            yield Fact(key, key, {} if label is None else {"confluence_class": label})


def _unknown_class(folder: str) -> bool:
    return re.fullmatch(r"-?\d+", PurePosixPath(folder).name) is not None
