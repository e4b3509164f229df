"""Digests of files that were read before, so that unchanged ones need not be read again."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self

from components.errors import StorageError
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
        with _translated(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._database = _open(self._path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # not a database, or a torn one
                _remove(self._path)
                self._database = _open(self._path)
            self._source = self._source_id(source_uri)
        self._waiting: list[tuple[int, str, str, bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with closing(self._database), _translated(self._path):
            self._flush()

    def get(self, info: ObjectInfo) -> str | None:
        """Give the digest of a file, if it was read in exactly this state."""
        query = "SELECT sha256 FROM digests WHERE source = ? AND key = ? AND fingerprint = ?"
        with _translated(self._path):
            row = self._database.execute(query, (self._source, info.key, info.fingerprint)).fetchone()
        return None if row is None else row[0].hex()

    def put(self, info: ObjectInfo, sha256: str) -> None:
        """Remember the digest of a file in this state."""
        self._waiting.append((self._source, info.key, info.fingerprint, bytes.fromhex(sha256)))
        if len(self._waiting) >= BATCH:
            with _translated(self._path):
                self._flush()

    def _flush(self) -> None:
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?)", self._waiting)
        self._waiting.clear()

    def _source_id(self, uri: str) -> int:
        with self._database:
            self._database.execute("INSERT OR IGNORE INTO sources (uri) VALUES (?)", (uri,))
        (number,) = self._database.execute("SELECT id FROM sources WHERE uri = ?", (uri,)).fetchone()
        return int(number)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=60)
    try:
        database.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_SCHEMA)
    except sqlite3.Error:
        database.close()
        raise
    return database


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"{path} cannot be used ({error}); free some space, mend its permissions or delete it"
        ) from error
