"""Named refs: each points to the newest entry of a log that nobody can rewrite unnoticed."""

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec

from components.errors import ConflictError, DataError, IntegrityError, ObjectNotFound
from components.storage import ObjectStore

REFS = "refs/"
LOG = "log/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION_ID = re.compile(r"[0-9a-f]{64}")

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class LogEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One move of a ref.

    Attributes:
        version: The data version that the ref moved to.
        time: When, with its time zone.
        author: Who moved it.
        message: Why.
        images: Number of images of the version.
        parent: Digest of the entry before, or None for a ref's first.
        source: URI that the images came from.
    """

    version: str
    time: datetime
    author: str
    message: str
    images: int
    parent: str | None = None
    source: str | None = None


class _Pointer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    entry: str
    version: str


class Head(NamedTuple):
    """Where a ref points; ``tag`` is what must not have changed when it is moved."""

    version: str
    entry: str
    tag: str


class Refs:
    """The refs of a store and their logs."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def head(self, name: str) -> Head | None:
        """Tell where a ref points, or None if there is no such ref.

        Raises:
            DataError: if no ref can have this name.
        """
        try:
            content, tag = self._store.read_tagged(ref_key(name))
        except ObjectNotFound:
            return None
        pointer = self._decode(content, ref_key(name), _Pointer)
        return Head(pointer.version, pointer.entry, tag)

    def move(self, name: str, head: Head | None, entry: LogEntry) -> None:
        """Write a log entry and point a ref to it.

        Args:
            name: The ref.
            head: Where it pointed when the entry was made; None for a new ref.
            entry: The entry, whose parent is the head's.

        Raises:
            ConflictError: if the ref points elsewhere by now.
        """
        content = msgspec.json.encode(entry, order="sorted")
        digest = hashlib.sha256(content).hexdigest()
        self._store.create(entry_key(digest), content)
        pointer = msgspec.json.encode(_Pointer(digest, entry.version), order="sorted")
        try:
            self._store.replace(ref_key(name), pointer, None if head is None else head.tag)
        except ConflictError:
            # Nobody else writes this entry: the move was made, and only the answer to it was lost.
            now = self.head(name)
            if now is None or now.entry != digest:
                raise

    def log(self, name: str) -> Iterator[LogEntry]:
        """Give a ref's entries, the newest first.

        Raises:
            DataError: if there is no such ref.
            IntegrityError: if an entry is missing or was altered.
        """
        head = self.head(name)
        if head is None:
            raise DataError(f"{self._store.uri} has no ref '{name}'; {self.hint()}")
        digest: str | None = head.entry
        while digest is not None:
            entry = self.entry(digest)
            yield entry
            digest = entry.parent

    def names(self) -> list[str]:
        """Give the names of all refs, ascending."""
        keys = (info.key.removeprefix(REFS) for info in self._store.list(REFS))
        return sorted(key.removesuffix(".json") for key in keys if key.endswith(".json"))

    def hint(self) -> str:
        """Give the part of an error's sentence that tells which refs there are."""
        names = self.names()
        return f"its refs: {', '.join(names[:20])}" if names else "it has no refs yet; make one by importing images"

    def entry(self, digest: str) -> LogEntry:
        """Give the log entry that has a digest.

        Raises:
            IntegrityError: if it is missing or was altered.
        """
        key = entry_key(digest)
        try:
            content = self._store.read(key)
        except ObjectNotFound as error:
            raise IntegrityError(f"{self._store.uri} has lost {key}; restore it from a copy") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise IntegrityError(f"{key} of {self._store.uri} was altered; restore it from a copy")
        return self._decode(content, key, LogEntry)

    def _decode(self, content: bytes, key: str, kind: type[_Struct]) -> _Struct:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise IntegrityError(f"{key} of {self._store.uri} was altered ({error}); restore it from a copy") from error


def is_ref_name(name: str) -> bool:
    """Tell whether a ref can have this name."""
    return _NAME.fullmatch(name) is not None and _VERSION_ID.fullmatch(name) is None


def ref_key(name: str) -> str:
    """Give the key of a ref.

    Raises:
        DataError: if no ref can have this name.
    """
    if not is_ref_name(name):
        raise DataError(
            f"'{name}' cannot be a ref's name: use up to 100 letters, digits, '.', '_' and '-', "
            "starting with a letter or digit"
        )
    return f"{REFS}{name}.json"


def entry_key(digest: str) -> str:
    """Give the key of a log entry."""
    return f"{LOG}{digest}.json"
