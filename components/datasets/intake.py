"""Bringing images into a store: each is read once, hashed and copied in the same pass."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from threading import Lock
from typing import NamedTuple

from components.datasets.blobs import CheckedReader, blob_key, digest_of
from components.datasets.index import DigestIndex
from components.datasets.manifest import ImageRecord
from components.datasets.parallel import BATCH, parallel_map, threads_for
from components.datasets.source import SourceImage
from components.errors import ConflictError, DataError, IntegrityError
from components.storage import ObjectInfo, ObjectStore

# Larger files are read twice, to be hashed and to be copied, instead of being held in memory.
WHOLE_BYTES = 16 << 20
READ_ATTEMPTS = 3

_Batch = list[tuple[SourceImage, str | None]]


class Taken(NamedTuple):
    """One image whose bytes the store now holds.

    Attributes:
        lasting: The state that was read, if seeing it again proves the same content; else None.
        stored: Bytes that had to be written for it.
    """

    image: SourceImage
    sha256: str
    size: int
    lasting: ObjectInfo | None
    stored: int | None


class Holdings:
    """What the store is known to hold already, so that it need not be asked about each image.

    A folder is asked, which costs microseconds and mends what a power failure tore. With S3, the
    images of the version that is being extended are taken to be there.

    Args:
        store: Where the blobs lie.
        known: SHA-256 of blobs that are there.
    """

    def __init__(self, store: ObjectStore, known: Iterable[str]) -> None:
        self._store = store
        self._lock = Lock()
        # A database without a name is a temporary file that goes with the connection.
        self._known = sqlite3.connect("", check_same_thread=False)
        self._known.execute("CREATE TABLE known (sha256 BLOB PRIMARY KEY) WITHOUT ROWID")
        if store.remote:
            rows = ((bytes.fromhex(sha256),) for sha256 in known)
            self._known.executemany("INSERT OR IGNORE INTO known VALUES (?)", rows)

    def close(self) -> None:
        """Drop what is known."""
        self._known.close()

    def has(self, sha256: str, size: int) -> bool:
        """Tell whether the store surely holds a blob of this digest, whole."""
        if not self._store.remote:
            info = self._store.stat(blob_key(sha256))
            return info is not None and info.size == size
        with self._lock:
            row = self._known.execute("SELECT 1 FROM known WHERE sha256 = ?", (bytes.fromhex(sha256),)).fetchone()
        return row is not None


class Intake:
    """Takes the images of one source into a store.

    Args:
        source: Where the images lie.
        store: Where their bytes go.
        index: Digests of files read before; None reads every file.
        holdings: What the store holds already.
    """

    def __init__(self, source: ObjectStore, store: ObjectStore, index: DigestIndex | None, holdings: Holdings) -> None:
        self._source, self._store, self._index, self._holdings = source, store, index, holdings
        self.new_images = 0
        self.bytes_added = 0

    def records(self, images: Iterable[SourceImage]) -> Iterator[ImageRecord]:
        """Take images in and give their records, in no certain order and in constant memory.

        Raises:
            DataError: if a file is being written to.
            StorageError: if the source cannot be read or the store not be written.
        """
        for taken in self._take_all(images):
            if self._index is not None and taken.lasting is not None:
                self._index.put(taken.lasting, taken.sha256)
            if taken.stored is not None:
                self.new_images += 1
                self.bytes_added += taken.stored
            image = taken.image
            yield ImageRecord(path=image.path, sha256=taken.sha256, size=taken.size, **image.metadata)

    def _take_all(self, images: Iterable[SourceImage]) -> Iterator[Taken]:
        threads = threads_for(self._source, self._store)
        with closing(parallel_map(self._take_batch, self._batches(images), threads)) as batches:
            for batch in batches:
                yield from batch

    def _batches(self, images: Iterable[SourceImage]) -> Iterator[_Batch]:
        """Look images up in the index, and hand them out: many that are known, few that must be read."""
        most_unread = 1 if self._source.remote or self._store.remote else BATCH
        batch: _Batch = []
        unread = 0
        for image in images:
            known = None if self._index is None else self._index.get(image.info)
            batch.append((image, known))
            unread += known is None
            if unread == most_unread or len(batch) == 16 * BATCH:
                yield batch
                batch, unread = [], 0
        if batch:
            yield batch

    def _take_batch(self, batch: _Batch) -> list[Taken]:
        return [self._take_known(image, known) if known else self._take(image) for image, known in batch]

    def _take_known(self, image: SourceImage, sha256: str) -> Taken:
        if self._holdings.has(sha256, image.info.size):
            return Taken(image, sha256, image.info.size, lasting=None, stored=None)
        return self._take(image)

    def _take(self, image: SourceImage) -> Taken:
        for _ in range(READ_ATTEMPTS):
            try:
                return self._read_and_store(image)
            except ConflictError:
                continue
        raise DataError(
            f"{image.key} of {self._source.uri} changes while it is read; wait until it is written, then import again"
        )

    def _read_and_store(self, image: SourceImage) -> Taken:
        with self._source.open(image.key) as reader:
            lasting = reader.info if self._source.settled(reader.info) else None
            if reader.info.size <= WHOLE_BYTES:
                content = reader.read()
                sha256, size = hashlib.sha256(content).hexdigest(), len(content)
            else:
                content = None
                sha256, size = digest_of(reader)
            reader.confirm()
        stored: int | None = None
        if not self._holdings.has(sha256, size):
            written = self._copy(image, sha256, size) if content is None else self._ensure(sha256, content)
            stored = size if written else None
        return Taken(image, sha256, size, lasting, stored)

    def _ensure(self, sha256: str, content: bytes) -> bool:
        return self._store.ensure(blob_key(sha256), content, len(content))

    def _copy(self, image: SourceImage, sha256: str, size: int) -> bool:
        try:
            with closing(CheckedReader(self._source.open(image.key), sha256, image.key)) as again:
                return self._store.ensure(blob_key(sha256), again, size)
        except IntegrityError as error:
            raise ConflictError(str(error)) from error
