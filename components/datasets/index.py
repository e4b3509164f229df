"""Digests of files that were read before, so that unchanged ones need not be read again."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Self

from components.datasets.database import database_errors, open_database
from components.storage import ObjectInfo

FILE_NAME = "digests.sqlite"
BATCH = 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sources (id INTEGER PRIMARY KEY, uri TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS digests (
    source INTEGER NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, sha256 BLOB NOT NULL,
    PRIMARY KEY (source, key)
) WITHOUT ROWID;
"""


class DigestIndex:
    """A local database, shared by all processes: (source, key, fingerprint) -> SHA-256.

    It holds nothing that cannot be found again by reading the source, so a damaged one is replaced.

    Args:
        folder: Where the database lies; made if it is missing.
        source_uri: The source whose files are looked up.

    Raises:
        StorageError: if the folder cannot be written.
    """

    def __init__(self, folder: Path, source_uri: str) -> None:
        self._path = folder / FILE_NAME
        self._database = open_database(self._path, _SCHEMA)
        with database_errors(self._path):
            self._source = self._source_id(source_uri)
        self._waiting: list[tuple[int, str, str, bytes]] = []
        self._ahead: Iterator[tuple[str, str, bytes]] = iter(())
        self._next: tuple[str, str, bytes] | None = None
        self._last: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with closing(self._database), database_errors(self._path):
            self._flush()

    def get(self, info: ObjectInfo) -> str | None:
        """Give the digest of a file, if it was read in exactly this state; quickest for keys that ascend."""
        with database_errors(self._path):
            if self._last is None or info.key <= self._last:
                self._seek(info.key)
            self._last = info.key
            while self._next is not None and self._next[0] < info.key:
                self._next = next(self._ahead, None)
        if self._next is None or self._next[:2] != (info.key, info.fingerprint):
            return None
        return self._next[2].hex()

    def put(self, info: ObjectInfo, sha256: str) -> None:
        """Remember the digest of a file in this state."""
        self._waiting.append((self._source, info.key, info.fingerprint, bytes.fromhex(sha256)))
        if len(self._waiting) >= BATCH:
            with database_errors(self._path):
                self._flush()

    def _seek(self, key: str) -> None:
        """Read on from a key, a page at a time, so that what is written meanwhile waits for no reader."""
        self._ahead = self._rows(key)
        self._next = next(self._ahead, None)

    def _rows(self, key: str) -> Iterator[tuple[str, str, bytes]]:
        query = "SELECT key, fingerprint, sha256 FROM digests WHERE source = ? AND key >= ? ORDER BY key LIMIT ?"
        found = self._database.execute(query, (self._source, key, BATCH)).fetchall()
        while found:
            yield from found
            # The zero byte is the least that can follow a key.
            found = self._database.execute(query, (self._source, f"{found[-1][0]}\0", BATCH)).fetchall()

    def _flush(self) -> None:
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)", self._waiting)
        self._waiting.clear()

    def _source_id(self, uri: str) -> int:
        with self._database:
            self._database.execute("INSERT OR IGNORE INTO sources (uri) VALUES (?)", (uri,))
        (number,) = self._database.execute("SELECT id FROM sources WHERE uri = ?", (uri,)).fetchone()
        return int(number)
