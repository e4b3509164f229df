"""The base of all layouts, and the listing of a source that they read."""

import posixpath
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from components.datasets.manifest import Box
from components.datasets.unchanged import ListingDigest
from components.formats import EXTENSIONS
from components.storage import ObjectInfo, ObjectStore


class Fact(NamedTuple):
    """What a layout says of one image: ``origin`` is where it says so, for error messages."""

    key: str
    origin: str
    fields: dict[str, Any]


class BoxFact(NamedTuple):
    """One box of an image, or None for an image that was looked at and has none."""

    key: str
    origin: str
    box: Box | None


class Listing:
    """The objects of a source, in a temporary database, so that memory does not grow with their number.

    Hidden files (``._x.jpg``, ``__MACOSX/``) are left out.
    """

    def __init__(self, source: ObjectStore) -> None:
        # The empty name makes SQLite keep the database in a temporary file that goes with the connection.
        self.database = sqlite3.connect("", check_same_thread=False)
        self.database.execute(
            "CREATE TABLE objects (key TEXT PRIMARY KEY, size INTEGER, fingerprint TEXT, folder TEXT, stem TEXT,"
            " suffix TEXT, is_image INTEGER) WITHOUT ROWID"
        )
        self.digest = ListingDigest(source)
        rows = (_row(info) for info in self._listed(source) if not is_hidden(info.key))
        self.database.executemany("INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self.database.execute("CREATE INDEX by_place ON objects (folder, stem)")

    def _listed(self, source: ObjectStore) -> Iterator[ObjectInfo]:
        for info in source.list():
            self.digest.add(info)
            yield info

    @property
    def images(self) -> int:
        """Number of objects with an image's extension."""
        (count,) = self.database.execute("SELECT COUNT(*) FROM objects WHERE is_image").fetchone()
        return int(count)

    def has(self, key: str) -> bool:
        """Tell whether the source holds an object."""
        return self.database.execute("SELECT 1 FROM objects WHERE key = ?", (key,)).fetchone() is not None

    def image_keys(self) -> Iterator[str]:
        """Give the images, ascending."""
        return (key for (key,) in self.database.execute("SELECT key FROM objects WHERE is_image ORDER BY key"))

    def image_folders(self) -> list[str]:
        """Give the folders that hold images, ascending."""
        query = "SELECT DISTINCT folder FROM objects WHERE is_image ORDER BY folder"
        return [folder for (folder,) in self.database.execute(query)]

    def keys_with_suffix(self, suffix: str) -> Iterator[str]:
        """Give the objects with an extension such as ``.csv`` in lower case, ascending."""
        query = "SELECT key FROM objects WHERE suffix = ? ORDER BY key"
        return (key for (key,) in self.database.execute(query, (suffix,)))

    def find_image(self, folder: str, stem: str) -> str | None:
        """Give the image of this name without its extension, in a folder."""
        query = "SELECT key FROM objects WHERE folder = ? AND stem = ? AND is_image ORDER BY key LIMIT 1"
        row = self.database.execute(query, (folder, stem)).fetchone()
        return None if row is None else str(row[0])


class Layout(ABC):
    """One way in which images and their labels lie in a source."""

    name: ClassVar[str]
    repeats: ClassVar[bool] = False
    """Whether facts may name an image more than once."""

    @abstractmethod
    def recognises(self, source: ObjectStore, listing: Listing) -> bool:
        """Tell whether the source has this layout."""

    @abstractmethod
    def facts(self, source: ObjectStore, listing: Listing) -> Iterator[Fact]:
        """Give what is known of each image that the layout names.

        Raises:
            DataError: naming the place and the value that cannot be used.
        """

    def boxes(self, source: ObjectStore, listing: Listing) -> Iterator[BoxFact]:
        """Give the labelled cells; an image's boxes keep this order."""
        del source, listing
        return iter(())


def _row(info: ObjectInfo) -> tuple[str, int, str, str, str, str, bool]:
    folder, name = posixpath.split(info.key)
    stem, suffix = posixpath.splitext(name)
    return info.key, info.size, info.fingerprint, folder, stem, suffix.lower(), suffix.lower() in EXTENSIONS


def is_hidden(key: str) -> bool:
    """Tell whether a file belongs to a system and not to a person."""
    return "/." in f"/{key}" or "/__MACOSX/" in f"/{key}/"
