"""What every object store can do."""

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from components.errors import StorageError

_NO_KEY = re.compile(r"\0|(?:^|/)\.{0,2}(?:/|\Z)")  # a part that is empty, '.' or '..'


class Stream(Protocol):
    """Anything that bytes can be read from, piece by piece."""

    def read(self, size: int = -1, /) -> bytes:
        """Read up to ``size`` bytes; none are left when the answer is empty."""
        ...


Data = bytes | Path | Stream


class ObjectInfo(NamedTuple):
    """What a store tells of an object without reading it.

    Attributes:
        key: Name within the store, with forward slashes.
        size: Bytes.
        fingerprint: Changes whenever the content changes; equal fingerprints mean equal content if
            the store calls the object settled (see ``ObjectStore.settled``).
    """

    key: str
    size: int
    fingerprint: str


class ObjectReader(io.BufferedReader):
    """An object that is being read; ``info`` tells which state of it."""

    def __init__(self, raw: io.RawIOBase, info: ObjectInfo) -> None:
        super().__init__(raw, buffer_size=1 << 17)
        self.info = info

    def confirm(self) -> None:
        """Check that all that was read belongs to the one state that ``info`` names.

        Raises:
            ConflictError: if somebody wrote to the object in the meantime.
        """


class ObjectStore(ABC):
    """Objects (bytes) under keys; safe to use from many threads and processes at once.

    Only ``StorageError`` and its kinds are raised; their messages name the store, then the fix.

    Attributes:
        uri: What ``open_store`` takes to open the same store again.
        remote: Whether each call costs a round trip over a network, so that many should overlap.
    """

    uri: str
    remote: ClassVar[bool]

    @abstractmethod
    def open(self, key: str) -> ObjectReader:
        """Open an object for reading; close it, or use it in a ``with`` statement.

        Raises:
            ObjectNotFound: if there is no such object.
        """

    @abstractmethod
    def stat(self, key: str) -> ObjectInfo | None:
        """Tell of an object, or give None if there is none."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Tell of every object whose key starts with ``prefix``, in constant memory.

        The order is the store's own: S3 servers differ in it.
        """

    @abstractmethod
    def write(self, key: str, data: Data) -> None:
        """Write an object whole or not at all; what was there is replaced."""

    @abstractmethod
    def create(self, key: str, data: Data) -> bool:
        """Write an object only if there is none; of any number of writers at once, one gets True."""

    @abstractmethod
    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """Read an object together with the tag that ``replace`` wants.

        Raises:
            ObjectNotFound: if there is no such object.
        """

    @abstractmethod
    def replace(self, key: str, data: bytes, expected: str | None) -> None:
        """Write an object only if it is still as it was read, and survive a power failure from then on.

        Args:
            key: The object's name.
            data: Its new content.
            expected: The tag from ``read_tagged``, or None if there was no such object.

        Raises:
            ConflictError: if another writer came first. With S3 that may have been this very call, if
                the answer to its first attempt was lost on the way.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; removing one that is not there is no error."""

    @abstractmethod
    def check_exists(self) -> None:
        """Check that the folder or bucket is there and may be read.

        Raises:
            StorageError: if it may not, with what to mend.
        """

    @abstractmethod
    def check_writable(self) -> None:
        """Check that objects can be written, by writing one.

        Raises:
            StorageError: if they can not, with what to mend.
        """

    def read(self, key: str) -> bytes:
        """Read a whole object.

        Raises:
            ObjectNotFound: if there is no such object.
        """
        with self.open(key) as reader:
            return reader.read()

    def ensure(self, key: str, data: Data, size: int) -> bool:
        """See to it that a key holds content which the key itself fixes, such as its digest.

        Args:
            key: The object's name.
            data: The content, ``size`` bytes of it.
            size: An object that is there with another size was torn by a power failure, and is replaced.

        Returns:
            Whether it had to be written.
        """
        info = self.stat(key)
        if info is not None and info.size == size:
            return False
        self.write(key, data)
        return True

    def settled(self, info: ObjectInfo) -> bool:
        """Tell whether the same fingerprint seen later proves that the content is the same."""
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"


def check_key(key: str, uri: str) -> str:
    """Give the key back if it names an object inside the store.

    Raises:
        StorageError: if it is absolute, empty, or climbs out of the store.
    """
    if _NO_KEY.search(key):
        raise StorageError(f"{key!r} names no object of {uri}: use a relative path without '.', '..' or empty parts")
    return key
