"""Objects as files of a folder."""

import errno
import fcntl
import hashlib
import io
import itertools
import os
import secrets
import shutil
import stat
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock

from typing_extensions import Buffer

from components.errors import ConflictError, ObjectNotFound, StorageError
from components.storage.base import Data, ObjectInfo, ObjectReader, ObjectStore, Stream, check_key

INTERNAL = ".mscflow-tmp"

# File systems date a change by a clock that ticks every few milliseconds, some only every two
# seconds: a second change within the same tick leaves no trace.
SETTLE_NS = 2_000_000_000

_NO_FILE = ".".join("0000")  # the fingerprint of a link to nothing
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class LocalStore(ObjectStore):
    """A folder; each object is the file at its key.

    A write goes to a temporary file that is then renamed, so that a process killed at any moment
    leaves whole objects; the next writer removes the temporary files of the killed.
    """

    remote = False

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.uri = str(self.root)
        self._names = itertools.count()
        self._writing = False
        self._starting = Lock()

    def open(self, key: str) -> ObjectReader:
        """Open a file; see ``ObjectStore.open``."""
        with storage_errors(self.uri, key):
            raw = _File(self._path(key))
            status = os.fstat(raw.fileno())
        return _FileReader(raw, _info(key, status))

    def stat(self, key: str) -> ObjectInfo | None:
        """Tell of a file, or give None if there is none."""
        with storage_errors(self.uri, key):
            try:
                status = os.stat(self._path(key))
            except (FileNotFoundError, NotADirectoryError):
                return None
        return _info(key, status) if stat.S_ISREG(status.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Walk the folder; links are followed, and a link to nothing shows as an empty file."""
        folder, slash, stem = prefix.rpartition("/")
        with storage_errors(self.uri, prefix):
            yield from self._walk(folder + slash, stem, frozenset())

    def write(self, key: str, data: Data) -> None:
        """Write a file whole or not at all; a power failure may lose it (``create`` does not)."""
        target = self._path(key)
        with self._spooled(data) as temporary, storage_errors(self.uri, key, writing=True):
            _into_place(os.replace, temporary, target)

    def create(self, key: str, data: Data) -> bool:
        """Write a file only if there is none, and survive a power failure from then on."""
        target = self._path(key)
        if os.path.lexists(target):
            return False
        with self._spooled(data, durable=True) as temporary, storage_errors(self.uri, key, writing=True):
            try:
                _into_place(os.link, temporary, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if not self._create_without_link(temporary, target):
                    return False
            _sync_folder(target)
        return True

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """Read a file; its tag is the digest of its content."""
        content = self.read(key)
        return content, _tag(content)

    def replace(self, key: str, data: bytes, expected: str | None) -> None:
        """Write a file only if it still has the content that was read."""
        target = self._path(key)
        with (
            self._spooled(data, durable=True) as temporary,
            storage_errors(self.uri, key, writing=True),
            self._alone(),
        ):
            try:
                current = _tag(Path(target).read_bytes())
            except FileNotFoundError:
                current = None
            if current != expected:
                raise ConflictError(f"{key} of {self.uri} was changed by another writer; read it again and retry")
            _into_place(os.replace, temporary, target)
            _sync_folder(target)

    def delete(self, key: str) -> None:
        """Remove a file."""
        with storage_errors(self.uri, key, writing=True), suppress(FileNotFoundError):
            os.unlink(self._path(key))

    def check_exists(self) -> None:
        """Check that the folder is there and can be listed."""
        if self.root.is_file():
            raise StorageError(f"{self.uri} is a file; give the folder that holds it")
        if not self.root.is_dir():
            raise StorageError(f"{self.uri} is no folder; check the path")
        if not os.access(self.root, os.R_OK | os.X_OK):
            raise StorageError(f"{self.uri} cannot be read; mend its permissions")

    def check_writable(self) -> None:
        """Check that files can be written, by writing one."""
        with self._spooled(b"probe"):
            pass

    def settled(self, info: ObjectInfo) -> bool:
        """Tell whether the file's last change is old enough that the next one will show."""
        _, modified, changed, _ = info.fingerprint.split(".")
        return max(int(modified), int(changed)) < time.time_ns() - SETTLE_NS

    def _path(self, key: str) -> str:
        return f"{self.uri}/{check_key(key, self.uri)}"

    def _walk(self, prefix: str, stem: str, above: frozenset[tuple[int, int]]) -> Iterator[ObjectInfo]:
        folder = f"{self.uri}/{prefix}"
        try:
            status = os.stat(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        here = (status.st_dev, status.st_ino)
        if here in above:  # a link to a folder that it lies in
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                key = prefix + entry.name
                if not entry.name.startswith(stem) or key == INTERNAL:
                    continue
                if entry.is_dir():
                    yield from self._walk(key + "/", "", above | {here})
                elif (info := _found(key, entry)) is not None:
                    yield info

    @contextmanager
    def _spooled(self, data: Data, *, durable: bool = False) -> Iterator[str]:
        """Write data to a temporary file, which is gone at the end unless it was renamed."""
        with storage_errors(self.uri, writing=True):
            self._begin_writing()
        temporary = f"{self.uri}/{INTERNAL}/{os.getpid()}-{next(self._names)}-{secrets.token_hex(4)}"
        try:
            with storage_errors(self.uri, writing=True):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                descriptor = os.open(temporary, flags, 0o666)
                try:
                    _fill(descriptor, data)
                    if durable:
                        os.fsync(descriptor)
                finally:
                    os.close(descriptor)
            yield temporary
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)

    def _begin_writing(self) -> None:
        """Once a store: make the folder, and remove what killed writers left.

        Every writer holds a shared lock for as long as it lives. Whoever gets the lock alone knows
        that no temporary file belongs to anybody.
        """
        if self._writing:
            return
        with self._starting:
            if self._writing:
                return
            internal = self.root / INTERNAL
            internal.mkdir(parents=True, exist_ok=True)
            lock = os.open(internal / "writers.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            weakref.finalize(self, os.close, lock)
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for leftover in internal.iterdir():
                    if leftover.suffix != ".lock":
                        leftover.unlink()
            fcntl.flock(lock, fcntl.LOCK_SH)
            self._writing = True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep every other thread and process out of compare-and-swap; a killed holder lets go."""
        lock = os.open(self.root / INTERNAL / "replace.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _create_without_link(self, temporary: str, target: str) -> bool:
        with self._alone():
            if os.path.lexists(target):
                return False
            _into_place(os.replace, temporary, target)
            return True


class _File(io.FileIO):
    """A file whose read errors are the store's."""

    def readinto(self, buffer: Buffer, /) -> int:
        with storage_errors(str(self.name)):
            return super().readinto(buffer) or 0

    def readall(self) -> bytes:
        with storage_errors(str(self.name)):
            return super().readall() or b""


class _FileReader(ObjectReader):
    def confirm(self) -> None:
        if _info(self.info.key, os.fstat(self.fileno())) != self.info:
            raise ConflictError(
                f"{self.info.key} changed while it was being read; wait until it is written, then retry"
            )


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    # The time of the inode's change catches tools that put the time of modification back.
    changes = f"{status.st_mtime_ns}.{status.st_ctime_ns}.{status.st_ino}"
    return ObjectInfo(key, status.st_size, f"{status.st_size}.{changes}")


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _found(key: str, entry: os.DirEntry[str]) -> ObjectInfo | None:
    try:
        return _info(key, entry.stat())
    except FileNotFoundError:  # a link to nothing, or a file removed this moment
        return ObjectInfo(key, 0, _NO_FILE) if entry.is_symlink() else None


def _fill(descriptor: int, data: Data) -> None:
    if isinstance(data, Path):
        with data.open("rb") as file:
            _copy(file, descriptor)
    elif isinstance(data, bytes):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    else:
        _copy(data, descriptor)


def _copy(source: Stream, descriptor: int) -> None:
    with open(descriptor, "wb", closefd=False) as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _into_place(move: Callable[[str, str], None], temporary: str, target: str) -> None:
    try:
        move(temporary, target)
    except FileNotFoundError:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        move(temporary, target)


def _sync_folder(path: str) -> None:
    descriptor = os.open(Path(path).parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(uri: str, key: str | None = None, *, writing: bool = False) -> Iterator[None]:
    """Turn the operating system's errors into sentences.

    Args:
        uri: The folder that is worked on.
        key: The file in it.
        writing: Whether it is written, rather than read.

    Raises:
        StorageError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise _storage_error(error, uri if key is None else f"{uri}/{key}", writing=writing) from error


def _storage_error(error: OSError, where: str, *, writing: bool) -> StorageError:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR if not writing:
            return ObjectNotFound(f"{where} does not exist")
        case errno.EISDIR if not writing:
            return ObjectNotFound(f"{where} is a folder, not an object")
        case errno.EACCES | errno.EPERM | errno.EROFS:
            verb = "written" if writing else "read"
            return StorageError(
                f"{where} cannot be {verb} ({error.strerror}); mend its permissions or choose another folder"
            )
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return StorageError(f"{where} cannot be written ({error.strerror}); free some space or choose another disk")
        case errno.EISDIR | errno.ENOTDIR | errno.EEXIST | errno.ENOTEMPTY:
            return StorageError(f"{where} cannot be written, as a folder or file is in its place ({error.filename})")
    return StorageError(f"{where}: {error.strerror or error}; check the disk")
