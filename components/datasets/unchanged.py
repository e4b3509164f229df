"""Whether a source still lists as it did when a ref's present version was made of it: then nothing of it is read."""

from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import msgspec

from components.datasets.database import database_errors, open_database
from components.storage import ObjectInfo, ObjectStore

# Part of the key: a change of how layouts and their tables are read needs a new one.
_METHOD = "1"
_FILE_NAME = "listings.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS listings (
    key BLOB PRIMARY KEY, listing BLOB NOT NULL, version TEXT NOT NULL, outcome BLOB NOT NULL
) WITHOUT ROWID;
"""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DIGEST_BYTES = 32


class ListingDigest:
    """What a source lists, in 32 bytes, whatever the order; no object is read.

    Attributes:
        settled: Whether the next change of any object would show.
    """

    def __init__(self, source: ObjectStore) -> None:
        self._source, self._total, self.settled = source, 0, True

    def add(self, info: ObjectInfo) -> None:
        """Count an object in."""
        line = f"{info.key}\0{info.size}\0{info.fingerprint}".encode("utf-8", "surrogateescape")
        self._total += int.from_bytes(blake2b(line, digest_size=_DIGEST_BYTES).digest(), "little")
        self.settled = self.settled and self._source.settled(info)

    @property
    def value(self) -> bytes:
        """Equal where all keys, sizes and fingerprints are."""
        return (self._total % (1 << 8 * _DIGEST_BYTES)).to_bytes(_DIGEST_BYTES, "little")


def listing_digest(source: ObjectStore) -> ListingDigest:
    """Digest what a source lists now."""
    digest = ListingDigest(source)
    for info in source.list():
        digest.add(info)
    return digest


class Seen:
    """Remembers, on this machine, which version a source gave when it listed like this.

    A folder's blobs are asked for again after the machine was started anew, as a power failure may have torn them.

    Args:
        folder: Where the database lies; made if it is missing.
        source: Whose listings are remembered.
        store: That holds the versions.
        options: Whatever else decides what the version is.

    Raises:
        StorageError: if the folder cannot be written.
    """

    def __init__(self, folder: Path, source: ObjectStore, store: ObjectStore, options: tuple[Any, ...]) -> None:
        self._path = folder / _FILE_NAME
        matters = (_METHOD, source.uri, store.uri, "" if store.remote else _boot(), *options)
        self._key = blake2b(msgspec.json.encode(matters), digest_size=_DIGEST_BYTES).digest()
        self._database = open_database(self._path, _SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def recall(self, listing: ListingDigest, version: str) -> Any | None:
        """Give what was remembered, if the source lists as it did then and the ref is where it was left."""
        query = "SELECT outcome FROM listings WHERE key = ? AND listing = ? AND version = ?"
        with database_errors(self._path):
            row = self._database.execute(query, (self._key, listing.value, version)).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    def remember(self, listing: ListingDigest, version: str, outcome: Any) -> None:
        """Remember what came of a listing, unless a change of the source might not show in the next one."""
        if not listing.settled:
            return
        row = (self._key, listing.value, version, msgspec.json.encode(outcome))
        with database_errors(self._path), self._database:
            self._database.execute("INSERT OR REPLACE INTO listings VALUES (?, ?, ?, ?)", row)


def _boot() -> str:
    with suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""
