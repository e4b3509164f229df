"""An image where it was found, before it belongs to a data version."""

from dataclasses import dataclass, field
from typing import Any

from components.storage import ObjectInfo


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One image of a source, and what the source says of it.

    Attributes:
        key: Its key in the source store.
        info: What the store told of it when it was found.
        path: Its name in the data version: unique, relative, with forward slashes.
        metadata: Further fields of ``ImageRecord``, already of their types, without path, sha256 and size.
    """

    key: str
    info: ObjectInfo
    path: str
    metadata: dict[str, Any] = field(default_factory=dict)
