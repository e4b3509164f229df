"""Local databases that remember costly results; what they hold can always be found again."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from components.errors import StorageError
from components.tracking import lock_file


def open_database(path: Path, schema: str) -> sqlite3.Connection:
    """Open such a database for use by many processes at once; a damaged one is replaced by an empty one.

    Args:
        path: Its file; folders are made as needed.
        schema: ``CREATE TABLE IF NOT EXISTS`` statements.

    Raises:
        StorageError: if the folder cannot be written.
    """
    with database_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # One at a time: SQLite waits for no other process that changes the journal's mode, it fails.
        with lock_file(path.with_name(path.name + ".lock")):
            try:
                return _open(path, schema)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # not a database, or a torn one
                for suffix in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        path.with_name(path.name + suffix).unlink()
                return _open(path, schema)


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn the errors of using a database into a sentence.

    Raises:
        StorageError: naming the database's file and what to mend.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"{path} cannot be used ({error}); free some space, mend its permissions or delete it"
        ) from error


def _open(path: Path, schema: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=60)
    try:
        database.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(schema)
    except sqlite3.Error:
        database.close()
        raise
    return database
