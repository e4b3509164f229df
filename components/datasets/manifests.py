"""The manifests of a store: each under the version id that its bytes have."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import msgspec

from components.datasets.manifest import ImageRecord, decode_lines, encode
from components.datasets.parallel import batched
from components.datasets.scratch import scratch_errors, scratch_file
from components.datasets.sorting import sorted_lines
from components.errors import DataError, IntegrityError, ObjectNotFound
from components.storage import ObjectStore

PREFIX = "manifests/"
_SUFFIX = ".jsonl"
_NO_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)")  # a part that is empty, '.' or '..'
_NO_NAME = re.compile(r"[\x00-\x1f\\]")
_CHUNK = 1 << 18


class RowKey(msgspec.Struct, frozen=True):
    """The part of a manifest line that tells which bytes lie under which path; quick to decode."""

    path: str
    sha256: str


row_key = msgspec.json.Decoder(RowKey).decode
_decode_record = msgspec.json.Decoder(ImageRecord).decode


class SpooledManifest(NamedTuple):
    """A manifest in a temporary file."""

    file: IO[bytes]
    version: str
    images: int

    def lines(self) -> Iterator[bytes]:
        """Give its lines from the first, without their line ends."""
        self.file.seek(0)
        return (line[:-1] for line in self.file)


class Manifests:
    """Reads and writes the manifests of a store, a line at a time."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def add(self, manifest: SpooledManifest) -> None:
        """Store a manifest, unless it is there.

        Raises:
            DataError: if it names no image.
        """
        if not manifest.images:
            raise DataError("a data version needs at least one image, and there is none; check the source")
        manifest.file.seek(0)
        self._store.create(manifest_key(manifest.version), manifest.file)

    def lines(self, version: str) -> Iterator[bytes]:
        """Give a version's lines, without their line ends.

        Raises:
            DataError: if there is no such version.
            IntegrityError: after the last line, if the manifest is not what its id says.
        """
        try:
            reader = self._store.open(manifest_key(version))
        except ObjectNotFound as error:
            raise DataError(f"{self._store.uri} holds no data version {version}; see its log") from error
        digest, rest = hashlib.sha256(), b""
        with reader:
            while chunk := reader.read(_CHUNK):
                digest.update(chunk)
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                yield from lines
        if digest.hexdigest() != version:
            raise IntegrityError(f"{manifest_key(version)} of {self._store.uri} was altered; restore it from a copy")

    def records(self, version: str) -> Iterator[ImageRecord]:
        """Give a version's records, ascending by path; errors as for ``lines``.

        Raises:
            IntegrityError: if the manifest was altered.
        """
        try:
            yield from decode_lines(self.lines(version))
        except msgspec.MsgspecError as error:
            raise IntegrityError(f"{manifest_key(version)} of {self._store.uri} was altered ({error})") from error

    def ids(self, prefix: str = "") -> Iterator[str]:
        """Give the ids of all versions that start with a prefix, in no certain order."""
        for info in self._store.list(PREFIX + prefix):
            if info.key.endswith(_SUFFIX):
                yield info.key.removeprefix(PREFIX).removesuffix(_SUFFIX)

    def has(self, version: str) -> bool:
        """Tell whether there is a version of this id."""
        return self._store.stat(manifest_key(version)) is not None


def manifest_key(version: str) -> str:
    """Give the key that a version's manifest lies under."""
    return f"{PREFIX}{version}{_SUFFIX}"


@contextmanager
def spooled(lines: Iterable[bytes]) -> Iterator[SpooledManifest]:
    """Write canonical lines, ascending by path, to a temporary file."""
    digest, images = hashlib.sha256(), 0
    with scratch_file() as file:
        for chunk in batched(lines, 1000):
            images += len(chunk)
            data = b"\n".join(chunk) + b"\n"
            digest.update(data)
            with scratch_errors():
                file.write(data)
        with scratch_errors():
            file.flush()
        yield SpooledManifest(file, digest.hexdigest(), images)


def canonical_lines(records: Iterable[ImageRecord]) -> Iterator[bytes]:
    """Give the manifest lines of records that come in any order, without their line ends.

    Raises:
        DataError: if a record cannot be kept, or two have the same path.
    """
    previous = b""
    # No path holds a zero byte, so the whole sorts as its path does.
    for entry in sorted_lines(_canonical(record) for record in records):
        path, _, line = entry.partition(b"\0")
        if path == previous:
            raise DataError(f"two images have the path {path.decode()!r}; rename one of them, or name it once")
        previous = path
        yield line


def merged(base: Iterable[bytes], added: Iterable[bytes]) -> Iterator[bytes]:
    """Merge the lines of two manifests; where both have a path, that of ``added`` is taken."""
    additions = ((row_key(line).path, line) for line in added)
    addition = next(additions, None)
    for line in base:
        path = row_key(line).path
        while addition is not None and addition[0] < path:
            yield addition[1]
            addition = next(additions, None)
        if addition is None or addition[0] > path:
            yield line
    if addition is not None:
        yield addition[1]
        yield from (line for _, line in additions)


def _canonical(record: ImageRecord) -> bytes:
    _check_path(record.path)
    try:
        # Through the decoder, which refuses what could not be read back, and turns 1 into 1.0 where
        # a fraction is meant: equal content must have equal lines.
        line = encode(_decode_record(encode(record)))
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise DataError(f"{record.path}: {error}; mend the image's metadata") from error
    return record.path.encode() + b"\0" + line[:-1]


def _check_path(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the file name {path!a} is not UTF-8; rename the file") from error
    if _NO_PATH.search(path):
        raise DataError(f"the path {path!r} leaves its folder or names none; use relative paths without '.' and '..'")
    if path != path.strip() or _NO_NAME.search(path):
        raise DataError(f"the path {path!r} has outer spaces, a backslash or control characters; rename the file")
