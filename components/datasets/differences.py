"""What differs between two data versions."""

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

import msgspec

from components.datasets.manifest import ImageRecord
from components.datasets.manifests import Manifests, row_key


class ChangeKind(StrEnum):
    """How one path differs."""

    ADDED = "added"
    REMOVED = "removed"
    IMAGE = "image"
    """Other bytes under the same path."""
    METADATA = "metadata"
    """The same bytes, but another label, group or other field."""


class Change(NamedTuple):
    """One path that differs, with what each version says of it."""

    kind: ChangeKind
    path: str
    before: ImageRecord | None
    after: ImageRecord | None


_Pair = tuple[ChangeKind, bytes | None, bytes | None]
_decode = msgspec.json.Decoder(ImageRecord).decode


class Diff:
    """The difference of two data versions; iterating gives its changes, ascending by path, in constant memory.

    Attributes:
        before: Id of the one version.
        after: Id of the other.
        added: Images that only ``after`` has.
        removed: Images that only ``before`` has.
        changed: Images that both have under one path, with other bytes or other metadata.
    """

    def __init__(self, manifests: Manifests, before: str, after: str) -> None:
        self.before, self.after = before, after
        self._manifests = manifests
        counts = Counter(kind for kind, _, _ in self._pairs())
        self.added = counts[ChangeKind.ADDED]
        self.removed = counts[ChangeKind.REMOVED]
        self.changed = counts[ChangeKind.IMAGE] + counts[ChangeKind.METADATA]

    def __iter__(self) -> Iterator[Change]:
        for kind, old, new in self._pairs():
            before = None if old is None else _decode(old)
            after = None if new is None else _decode(new)
            known = after or before
            assert known is not None  # noqa: S101 - a pair has a side
            yield Change(kind, known.path, before, after)

    def _pairs(self) -> Iterator[_Pair]:
        if self.before == self.after:
            return iter(())
        return _merge(self._manifests.lines(self.before), self._manifests.lines(self.after))


def _merge(before: Iterator[bytes], after: Iterator[bytes]) -> Iterator[_Pair]:
    old, new = next(before, None), next(after, None)
    while old is not None and new is not None:
        if old == new:  # most lines of most versions: compared, never decoded
            old, new = next(before, None), next(after, None)
            continue
        was, now = row_key(old), row_key(new)
        if was.path == now.path:
            yield ChangeKind.METADATA if was.sha256 == now.sha256 else ChangeKind.IMAGE, old, new
            old, new = next(before, None), next(after, None)
        elif was.path < now.path:
            yield ChangeKind.REMOVED, old, None
            old = next(before, None)
        else:
            yield ChangeKind.ADDED, None, new
            new = next(after, None)
    while old is not None:
        yield ChangeKind.REMOVED, old, None
        old = next(before, None)
    while new is not None:
        yield ChangeKind.ADDED, None, new
        new = next(after, None)
