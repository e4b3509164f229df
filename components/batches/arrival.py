"""Batches on their way: found below a watched place, and complete once they say so themselves.

A batch is a direct sub-folder. It says that it is complete by one of two markers, written last:

    _COMPLETE     an empty file
    batch.json    {"images": [{"path": ..., "sha256": ..., "size": ...}, ...]} or {"count": N}; what it says must hold

What a batch is, its id, is the SHA-256 of its content: of the paths and digests of its images and label tables. The
same files uploaded again are the same batch; labels that come later make another one of the same name.
"""

import hashlib
from collections.abc import Collection, Container, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from components.datasets.blobs import digest_of
from components.datasets.importers.layout import is_hidden
from components.datasets.index import DigestIndex
from components.datasets.parallel import parallel_map, threads_for
from components.errors import DataError, ObjectNotFound
from components.formats import EXTENSIONS
from components.storage import ObjectInfo, ObjectStore, open_store

MARKER, MANIFEST = "_COMPLETE", "batch.json"
_NAMED = 3  # missing files that are named to a person


class Arrival(NamedTuple):
    """One batch as it lies there now.

    Attributes:
        name: Of its folder.
        uri: What ``open_store`` takes to open it.
        images: Files with an image's extension.
        listing: Changes whenever a file of it comes, goes or changes; without any having been read.
        waiting: Why it is not complete; None where it is.
    """

    name: str
    uri: str
    images: int
    listing: str
    waiting: str | None


class _Image(msgspec.Struct, frozen=True):
    path: str
    sha256: str | None = None
    size: int | None = None


class _Manifest(msgspec.Struct, frozen=True):
    images: list[_Image] | None = None
    count: int | None = None


def find_arrivals(watched: ObjectStore, known: Container[tuple[str, str]] = ()) -> list[Arrival]:
    """Tell of every batch below a place, ascending by name; no image is read.

    Args:
        watched: The place.
        known: Names and listings of batches that were complete before; what they say of themselves is not read again.

    Raises:
        StorageError: if the place cannot be listed.
    """
    found: dict[str, _Listing] = {}
    for info in watched.list():
        name, slash, key = info.key.partition("/")
        if slash and not name.startswith("."):
            found.setdefault(name, _Listing()).add(info._replace(key=key))
    return [_arrived(watched, name, found[name], known) for name in sorted(found)]


def look_at(uri: str) -> Arrival:
    """Tell of one batch that a person names: it needs no marker, but one that it has must hold.

    Raises:
        StorageError: if there is no such folder or bucket.
        DataError: if it holds no images.
    """
    batch, listing = open_store(uri, must_exist=True), _Listing()
    for info in batch.list():
        listing.add(info)
    if not listing.images:
        raise DataError(f"{uri} holds no images ({', '.join(sorted(EXTENSIONS))}); check the path")
    name = PurePosixPath(batch.uri.rstrip("/")).name
    waiting = _why_waiting(_Files(batch), listing, marked=False)
    return Arrival(name, batch.uri, listing.images, listing.digest, waiting)


def identify(arrival: Arrival, cache: Path) -> str:
    """Give a complete batch's id; files that were read before and have not changed since are not read again.

    Args:
        arrival: The batch.
        cache: Local folder that remembers digests.

    Raises:
        DataError: if an image is not the one that ``batch.json`` names: it is damaged, or still being written.
        StorageError: if the batch cannot be read.
    """
    batch = open_store(arrival.uri, must_exist=True)
    content = sorted(info for info in batch.list() if not _is_marker(info.key) and not is_hidden(info.key))
    digests = dict(_digests(batch, content, cache))
    for image in _manifest(_Files(batch)).images or ():
        if image.sha256 is not None and digests.get(image.path) != image.sha256.lower():
            where = f"{arrival.uri}/{image.path}"
            raise DataError(f"{where} is not the file that {MANIFEST} names (its SHA-256 differs); upload it again")
    lines = "".join(f"{path}\0{digests[path]}\n" for path in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


@dataclass
class _Listing:
    """What is known of a batch's files without reading them, in memory that does not grow with their number."""

    images: int = 0
    markers: set[str] = field(default_factory=set)
    _sum: int = 0

    def add(self, info: ObjectInfo) -> None:
        if _is_marker(info.key):
            self.markers.add(info.key)
        if is_hidden(info.key):
            return
        self.images += _is_image(info.key)
        # Stores list in any order, so that the digests of all files are added up.
        own = hashlib.sha256(f"{info.key}\0{info.size}\0{info.fingerprint}".encode()).digest()
        self._sum = (self._sum + int.from_bytes(own)) % (1 << 256)

    @property
    def digest(self) -> str:
        return f"{self._sum:064x}"


class _Files(NamedTuple):
    """Where the files of a batch lie: in a store that may hold others, too."""

    store: ObjectStore
    prefix: str = ""

    @property
    def manifest(self) -> str:
        return f"{self.store.uri.rstrip('/')}/{self.prefix}{MANIFEST}"


def _arrived(watched: ObjectStore, name: str, listing: _Listing, known: Container[tuple[str, str]]) -> Arrival:
    uri = f"{watched.uri.rstrip('/')}/{name}"
    seen = (name, listing.digest) in known
    waiting = None if seen else _why_waiting(_Files(watched, f"{name}/"), listing, marked=True)
    return Arrival(name, uri, listing.images, listing.digest, waiting)


def _why_waiting(files: _Files, listing: _Listing, *, marked: bool) -> str | None:
    if MANIFEST in listing.markers:
        return _what_lacks(files, listing)
    if marked and MARKER not in listing.markers:
        return f"neither {MARKER} nor {MANIFEST} is there yet"
    return None if listing.images else "it holds no images"


def _what_lacks(files: _Files, listing: _Listing) -> str | None:
    try:
        said = _manifest(files)
    except DataError as error:
        return str(error)
    if said.count is not None and said.count != listing.images:
        return f"{MANIFEST} says {said.count} images, and {listing.images} are there"
    lacking = list(_lacking(files, said.images or ()))
    if lacking:
        more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
        some = ", ".join(lacking[:_NAMED])
        return f"{len(lacking)} of {len(said.images or ())} images are not there yet: {some}{more}"
    if said.images is not None:
        unnamed = listing.images - len({image.path for image in said.images if _is_image(image.path)})
        if unnamed > 0:
            return f"{unnamed} images are there that {MANIFEST} does not name"
    return None if listing.images else "it holds no images"


def _lacking(files: _Files, images: Collection[_Image]) -> Iterator[str]:
    if not images:
        return
    sizes = {info.key.removeprefix(files.prefix): info.size for info in files.store.list(files.prefix)}
    for image in images:
        size = sizes.get(image.path)
        if size is None or (image.size is not None and size != image.size):
            yield image.path


def _manifest(files: _Files) -> _Manifest:
    """Read what a batch says of itself.

    Raises:
        DataError: if it cannot be read, or says nothing.
    """
    try:
        said = msgspec.json.decode(files.store.read(files.prefix + MANIFEST), type=_Manifest)
    except ObjectNotFound:
        return _Manifest()
    except msgspec.MsgspecError as error:
        raise DataError(f"{files.manifest} cannot be used ({error}); see docs/retraining/batches.md") from error
    if said.images is None and said.count is None:
        raise DataError(f"{files.manifest} has neither 'images' nor 'count'; see docs/retraining/batches.md")
    return said


def _digests(batch: ObjectStore, content: list[ObjectInfo], cache: Path) -> Iterator[tuple[str, str]]:
    with DigestIndex(cache, batch.uri) as index:
        unread = []
        for info in content:
            known = index.get(info)
            if known is None:
                unread.append(info)
            else:
                yield info.key, known

        def read(info: ObjectInfo) -> tuple[ObjectInfo, str]:
            with batch.open(info.key) as reader:
                sha256, _ = digest_of(reader)
                reader.confirm()
                return reader.info, sha256

        with closing(parallel_map(read, unread, threads_for(batch))) as found:
            for info, digest in found:
                if batch.settled(info):
                    index.put(info, digest)
                yield info.key, digest


def _is_marker(key: str) -> bool:
    return key in {MARKER, MANIFEST}


def _is_image(key: str) -> bool:
    return PurePosixPath(key).suffix.lower() in EXTENSIONS
