"""Data versions in an object store.

    blobs/<aa>/<sha256>      the bytes of an image, once
    manifests/<id>.jsonl     a data version; its id is the SHA-256 of its bytes
    log/<sha256>.json        one move of a ref, and the entry before it
    refs/<name>.json         the newest entry of a ref; the only object that ever changes

They are written in this order, so that whatever is there names only what is there: a process killed
at any moment leaves the old state or the new one.
"""

import getpass
import random
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from components.datasets.blobs import read_blob
from components.datasets.checkout import check_out
from components.datasets.differences import Diff
from components.datasets.index import DigestIndex
from components.datasets.intake import Holdings, Intake
from components.datasets.manifest import ImageRecord
from components.datasets.manifests import Manifests, SpooledManifest, canonical_lines, merged, row_key, spooled
from components.datasets.refs import Head, LogEntry, Refs, is_ref_name, ref_key
from components.datasets.source import SourceImage
from components.datasets.verification import Verification, VerifyReport
from components.errors import ConflictError, DataError
from components.events import Progress
from components.storage import ObjectStore

__all__ = ["DataRepository", "Diff", "LogEntry", "Snapshot", "VerifyReport"]

MOVE_ATTEMPTS = 20
SHORTEST_PREFIX = 6


class Snapshot(NamedTuple):
    """What a snapshot did.

    Attributes:
        version: Id of the data version that the ref points to now.
        images: Its number of images.
        new_images: Images whose bytes the store did not hold before.
        bytes_added: Their bytes.
        previous: The version that the ref pointed to before, if it existed.
        changed: Whether the ref moved.
        lost_races: How often another writer moved the ref first, so that this one had to follow.
    """

    version: str
    images: int
    new_images: int
    bytes_added: int
    previous: str | None
    changed: bool
    lost_races: int


class DataRepository:
    """The data versions of a store.

    Args:
        store: Where they lie.
        cache: A local folder for the digests of files read before; None reads every file every time.
    """

    def __init__(self, store: ObjectStore, *, cache: Path | None = None) -> None:
        self.store = store
        self._cache = cache
        self._manifests = Manifests(store)
        self._refs = Refs(store)

    def snapshot(
        self,
        source: ObjectStore,
        images: Iterable[SourceImage],
        *,
        ref: str,
        message: str,
        author: str | None = None,
        extend: bool = False,
        recheck: bool = False,
        progress: Progress | None = None,
    ) -> Snapshot:
        """Make a data version of images and point a ref to it.

        Files that were read before and have not changed since are not read again; bytes that the
        store holds are not written again.

        Args:
            source: Where the images lie.
            images: What to take, in any order.
            ref: Name of the ref; it is made if there is none.
            message: Why, for the log.
            author: Who, for the log; by default the user that runs this.
            extend: Keep the images of the ref's present version and add these; one of the same path
                takes the place of the old. Without it, the version has these images alone.
            recheck: Ask an S3 store for each image instead of trusting that it holds those of the
                ref's present version; this restores images that ``verify`` found missing.
            progress: Told of each image.

        Raises:
            DataError: if there are no images, two have one path, or one is being written to.
            StorageError: if the source cannot be read or the store not be written.
            ConflictError: if other writers moved the ref again and again.
        """
        ref_key(ref)
        with ExitStack() as stack:
            head = self._refs.head(ref)
            known = () if head is None or recheck or not self.store.remote else self._digests(head.version)
            holdings = stack.enter_context(closing(Holdings(self.store, known)))
            index = stack.enter_context(self._index(source))
            intake = Intake(source, self.store, index, holdings)
            records = stack.enter_context(closing(_counted(intake.records(images), progress)))
            own = stack.enter_context(spooled(canonical_lines(records)))
            entry = _Draft(message, author or _user(), source.uri)
            version, count, previous, lost = self._move(ref, head, own, entry, extend=extend)
        changed = previous != version
        return Snapshot(version, count, intake.new_images, intake.bytes_added, previous, changed, lost)

    def extend(self, ref: str, version: str, *, message: str, author: str | None = None) -> Snapshot:
        """Add the images of a version to those that a ref has; one of the same path takes the place of the old.

        Raises:
            DataError: if there is no such version.
            ConflictError: if other writers moved the ref again and again.
        """
        ref_key(ref)
        with spooled(self._manifests.lines(version)) as own:
            entry = _Draft(message, author or _user(), self.store.uri)
            result, count, previous, lost = self._move(ref, self._refs.head(ref), own, entry, extend=True)
        return Snapshot(result, count, 0, 0, previous, previous != result, lost)

    def add_version(self, records: Iterable[ImageRecord]) -> str:
        """Store a data version made of images that the store holds already, such as a part of another.

        Args:
            records: Its images, in any order.

        Returns:
            The version's id; no ref points to it.

        Raises:
            DataError: if there are none, two have one path, or one cannot be kept.
        """
        with spooled(canonical_lines(records)) as manifest:
            self._manifests.add(manifest)
            return manifest.version

    def records(self, version: str) -> Iterator[ImageRecord]:
        """Give the images of a version, ascending by path, in constant memory.

        Raises:
            DataError: if there is no such version.
            IntegrityError: if its manifest was altered; at the latest after the last image.
        """
        return self._manifests.records(version)

    def image(self, record: ImageRecord) -> bytes:
        """Give the bytes of an image's file.

        Raises:
            IntegrityError: if they are missing or are not those that the record names.
        """
        return read_blob(self.store, record)

    def refs(self) -> dict[str, str]:
        """Give the version that each ref points to, by name."""
        heads = ((name, self._refs.head(name)) for name in self._refs.names())
        return {name: head.version for name, head in heads if head is not None}

    def present(self, ref: str) -> str | None:
        """Give the version that a ref points to, None where there is no such ref."""
        head = self._refs.head(ref)
        return None if head is None else head.version

    def resolve(self, name: str) -> str:
        """Give the id of the version that is meant by a ref, an id, or the first digits of one.

        Raises:
            DataError: if nothing or more than one version is meant.
        """
        if is_ref_name(name) and (head := self._refs.head(name)) is not None:
            return head.version
        digits = name.lower()
        if len(digits) >= SHORTEST_PREFIX and set(digits) <= set("0123456789abcdef"):
            found = sorted(self._manifests.ids(digits))
            if len(found) == 1:
                return found[0]
            if found:
                some = ", ".join(version[: len(digits) + 4] for version in found[:5])
                raise DataError(f"'{name}' could be any of {len(found)} data versions ({some}); give more digits")
        raise DataError(
            f"'{name}' is no ref and no data version of {self.store.uri}, nor the first {SHORTEST_PREFIX} or more "
            f"digits of one; {self._refs.hint()}"
        )

    def log(self, ref: str) -> list[LogEntry]:
        """Give the moves of a ref, the newest first.

        Raises:
            DataError: if there is no such ref.
            IntegrityError: if an entry is missing or was altered.
        """
        return list(self._refs.log(ref))

    def diff(self, before: str, after: str) -> Diff:
        """Compare two versions; see ``Diff``.

        Raises:
            DataError: if there is no such version.
        """
        return Diff(self._manifests, before, after)

    def checkout(self, version: str, folder: Path, progress: Progress | None = None) -> int:
        """Write a version as a folder of images with ``labels.csv``; see ``check_out``."""
        return check_out(self.store, version, folder, progress)

    def verify(self, version: str | None = None, progress: Progress | None = None) -> VerifyReport:
        """Hash again what is stored, and report what is missing or altered.

        Args:
            version: The version to check; None checks all of them, and the logs of all refs.
            progress: Told of each image.
        """
        verification = Verification(self.store, progress)
        return verification.of_everything() if version is None else verification.of_version(version)

    def _move(
        self, ref: str, head: Head | None, own: SpooledManifest, draft: "_Draft", *, extend: bool
    ) -> tuple[str, int, str | None, int]:
        """Point a ref to a manifest, after whoever comes first.

        Returns:
            The version, its number of images, the version before, and the number of races lost.
        """
        for lost in range(MOVE_ATTEMPTS):
            with self._upon(head, own, extend=extend) as manifest:
                if head is not None and head.version == manifest.version:
                    return manifest.version, manifest.images, head.version, lost
                self._manifests.add(manifest)
            try:
                self._refs.move(ref, head, draft.entry(manifest, head))
            except ConflictError:
                time.sleep(random.uniform(0, 0.05 * (lost + 1)))  # noqa: S311 - only to get out of step
                head = self._refs.head(ref)
            else:
                return manifest.version, manifest.images, None if head is None else head.version, lost
        raise ConflictError(
            f"ref '{ref}' of {self.store.uri} was moved by other writers {MOVE_ATTEMPTS} times in a row; "
            "the images are stored, so try again"
        )

    def _upon(
        self, head: Head | None, own: SpooledManifest, *, extend: bool
    ) -> AbstractContextManager[SpooledManifest]:
        if head is None or not extend:
            return nullcontext(own)
        return spooled(merged(self._manifests.lines(head.version), own.lines()))

    def _index(self, source: ObjectStore) -> AbstractContextManager[DigestIndex | None]:
        return nullcontext() if self._cache is None else DigestIndex(self._cache, source.uri)

    def _digests(self, version: str) -> Iterator[str]:
        return (row_key(line).sha256 for line in self._manifests.lines(version))


class _Draft(NamedTuple):
    """The parts of a log entry that are known before its place in the log."""

    message: str
    author: str
    source: str

    def entry(self, manifest: SpooledManifest, head: Head | None) -> LogEntry:
        return LogEntry(
            version=manifest.version,
            time=datetime.now(UTC),
            author=self.author,
            message=self.message,
            images=manifest.images,
            parent=None if head is None else head.entry,
            source=self.source,
        )


def _counted(records: Iterator[ImageRecord], progress: Progress | None) -> Generator[ImageRecord, None, None]:
    for record in records:
        if progress is not None:
            progress.advance()
        yield record


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
