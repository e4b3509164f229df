"""Reading everything again, to prove that it is what it is recorded as."""

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

import msgspec

from components.datasets.blobs import blob_key, digest_of
from components.datasets.manifests import Manifests, manifest_key, row_key
from components.datasets.parallel import BATCH, batched, parallel_map, threads_for
from components.datasets.refs import Refs, entry_key, ref_key
from components.datasets.sorting import sorted_lines
from components.errors import DataError, IntegrityError, ObjectNotFound
from components.events import Progress
from components.storage import ObjectStore


class Fault(NamedTuple):
    """One object that is not what it must be; ``needed_by`` names a version and a path, or a ref."""

    key: str
    needed_by: str


class VerifyReport(NamedTuple):
    """What a verification found.

    Attributes:
        versions: Data versions that were checked.
        checked: Distinct images whose bytes were hashed.
        missing: Objects that are recorded but not there.
        altered: Objects that are there with other bytes.
    """

    versions: int
    checked: int
    missing: tuple[Fault, ...]
    altered: tuple[Fault, ...]

    @property
    def clean(self) -> bool:
        """Whether everything is as recorded."""
        return not self.missing and not self.altered


class Verification:
    """Checks a store: the logs of its refs, its manifests, and every image that they name."""

    def __init__(self, store: ObjectStore, progress: Progress | None = None) -> None:
        self._store, self._progress = store, progress
        self._manifests, self._refs = Manifests(store), Refs(store)
        self._missing: list[Fault] = []
        self._altered: list[Fault] = []

    def of_version(self, version: str) -> VerifyReport:
        """Check one data version."""
        return self._report({version: "asked for"})

    def of_everything(self) -> VerifyReport:
        """Check all refs and all data versions, also those that no ref points to any more."""
        versions = dict.fromkeys(self._manifests.ids(), "the store")
        for name in self._refs.names():
            versions |= dict.fromkeys(self._logged(name), f"ref {name}")
        return self._report(versions)

    def _report(self, versions: dict[str, str]) -> VerifyReport:
        checked = 0
        batches = batched(_distinct(sorted_lines(self._named(versions))), BATCH)
        with closing(parallel_map(self._check_images, batches, threads_for(self._store))) as results:
            for faults, count in results:
                for fault in faults:
                    self._note(*fault)
                checked += count
                if self._progress is not None:
                    self._progress.advance(count)
        return VerifyReport(len(versions), checked, tuple(self._missing), tuple(self._altered))

    def _logged(self, name: str) -> Iterator[str]:
        """Give the versions of a ref's log, as far back as it can be followed."""
        key = ref_key(name)
        try:
            head = self._refs.head(name)
            digest = None if head is None else head.entry
            while digest is not None:
                key = entry_key(digest)
                entry = self._refs.entry(digest)
                yield entry.version
                digest = entry.parent
        except IntegrityError:
            self._note(key, f"ref {name}")

    def _named(self, versions: dict[str, str]) -> Iterator[bytes]:
        """Give a line for each image that a version names, the digest first."""
        for version, needed_by in versions.items():
            try:
                for line in self._manifests.lines(version):
                    row = row_key(line)
                    yield f"{row.sha256}\0{row.path} of {version[:12]}".encode()
            except (DataError, IntegrityError, msgspec.MsgspecError):
                self._note(manifest_key(version), needed_by)

    def _check_images(self, lines: list[bytes]) -> tuple[list[tuple[str, str]], int]:
        faults = []
        for line in lines:
            sha256, _, needed_by = line.decode().partition("\0")
            key = blob_key(sha256)
            try:
                with self._store.open(key) as reader:
                    intact = digest_of(reader)[0] == sha256
            except ObjectNotFound:
                intact = False
            if not intact:
                faults.append((key, needed_by))
        return faults, len(lines)

    def _note(self, key: str, needed_by: str) -> None:
        there = self._store.stat(key) is not None
        (self._altered if there else self._missing).append(Fault(key, needed_by))


def _distinct(lines: Iterator[bytes]) -> Iterator[bytes]:
    previous = b""
    for line in lines:
        sha256, _, _ = line.partition(b"\0")
        if sha256 != previous:
            yield line
        previous = sha256
