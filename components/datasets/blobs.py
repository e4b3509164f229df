"""The bytes of images, each kept once under its digest."""

import hashlib
from contextlib import closing

from components.datasets.manifest import ImageRecord
from components.errors import IntegrityError, ObjectNotFound
from components.storage import ObjectReader, ObjectStore

CHUNK = 1 << 20


def blob_key(sha256: str) -> str:
    """Give the key that bytes of this digest lie under; 256 folders keep each of them short."""
    return f"blobs/{sha256[:2]}/{sha256}"


def read_blob(store: ObjectStore, record: ImageRecord) -> bytes:
    """Read an image's bytes and check them.

    Raises:
        IntegrityError: if they are missing or are not those that the record names.
    """
    with closing(open_blob(store, record)) as reader:
        return reader.read()


def open_blob(store: ObjectStore, record: ImageRecord) -> "CheckedReader":
    """Open an image's bytes; what is read is checked by the time its end is reached.

    Raises:
        IntegrityError: if they are missing.
    """
    try:
        reader = store.open(blob_key(record.sha256))
    except ObjectNotFound as error:
        raise IntegrityError(
            f"{store.uri} has lost the bytes of {record.path} ({record.sha256}); import the image again"
        ) from error
    return CheckedReader(reader, record.sha256, f"{record.path} in {store.uri}")


class CheckedReader:
    """Bytes that must have a certain digest; the read that finds their end raises if they have not."""

    def __init__(self, reader: ObjectReader, sha256: str, name: str) -> None:
        self._reader, self._expected, self._name = reader, sha256, name
        self._digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """Read up to ``size`` bytes, or all that are left.

        Raises:
            IntegrityError: at the end, if the bytes do not have the digest.
        """
        content = self._reader.read(size)
        self._digest.update(content)
        if size < 0 or not content:
            self._check()
        return content

    def close(self) -> None:
        """Let go of the object."""
        self._reader.close()

    def _check(self) -> None:
        actual = self._digest.hexdigest()
        if actual != self._expected:
            raise IntegrityError(f"{self._name} has digest {actual}, but is recorded under {self._expected}")


def digest_of(reader: ObjectReader) -> tuple[str, int]:
    """Give the SHA-256 and the number of bytes of what is left to read, in constant memory."""
    digest, size = hashlib.sha256(), 0
    while chunk := reader.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
