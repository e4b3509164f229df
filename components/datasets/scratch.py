"""Temporary files, for what is too much for memory."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from components.errors import StorageError


@contextmanager
def scratch_file() -> Iterator[IO[bytes]]:
    """Give an empty file that is gone at the end, even if the process is killed."""
    with scratch_errors():
        file = tempfile.TemporaryFile(prefix="mscflow-")  # noqa: SIM115 - closed below, with errors told apart
    with file:
        yield file


@contextmanager
def scratch_errors() -> Iterator[None]:
    """Turn the errors of writing to a scratch file into a sentence.

    Raises:
        StorageError: if the temporary folder is full or cannot be written.
    """
    try:
        yield
    except OSError as error:
        folder = tempfile.gettempdir()
        raise StorageError(f"{folder}: {error.strerror}; free some space, or set TMPDIR to another folder") from error
