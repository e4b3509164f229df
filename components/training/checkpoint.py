"""The state of a fit after each epoch, from which it goes on after having been killed."""

import hashlib
import io
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch

from components.errors import ObjectNotFound, StorageError
from components.events import emit
from components.storage import ObjectStore

FILE = "checkpoint.pt"
_DIGEST_BYTES = 32


class Checkpoint(ABC):
    """A place for one state, replaced as a whole, so that a kill at any moment leaves the old or the new one."""

    name: str

    @abstractmethod
    def _read(self) -> bytes | None:
        """Give what is there, None if there is nothing."""

    @abstractmethod
    def _write(self, content: bytes) -> None:
        """Replace what is there."""

    @abstractmethod
    def clear(self) -> None:
        """Forget the saved state, and what killed processes left half written."""

    def content(self) -> bytes | None:
        """Give the last saved state as bytes for ``decode``, None where there is none that is whole."""
        content = self._read()
        if content is None:
            return None
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            emit("note", message=f"{self.name} is damaged; training starts again")
            return None
        return payload

    def load(self) -> dict[str, Any] | None:
        """Give the last saved state, None where there is none that is whole."""
        content = self.content()
        return None if content is None else decode(content)

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state.

        Raises:
            StorageError: if the disk is full or cannot be written, or the store does not take it.
        """
        buffer = io.BytesIO(bytes(_DIGEST_BYTES))
        buffer.seek(_DIGEST_BYTES)
        torch.save(state, buffer)
        view = buffer.getbuffer()
        view[:_DIGEST_BYTES] = hashlib.sha256(view[_DIGEST_BYTES:]).digest()
        view.release()
        self._write(buffer.getvalue())


class FileCheckpoint(Checkpoint):
    """A file of this machine.

    It is not flushed to the disk device: after a power cut an epoch may be lost or the file be
    damaged, which its digest tells, and then the fit starts again.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.name = str(self.path)

    def _read(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, content: bytes) -> None:
        partial = self.path.with_name(f"{FILE}.{os.getpid()}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(self.path)
        except OSError as error:
            raise StorageError(
                f"checkpoint {self.path} cannot be written ({error}); free or unlock the disk"
            ) from error
        finally:
            if partial.is_file():
                partial.unlink()

    def clear(self) -> None:
        """See ``Checkpoint``."""
        self.path.unlink(missing_ok=True)
        for partial in self.path.parent.glob(f"{FILE}.*.partial"):
            partial.unlink(missing_ok=True)


class StoredCheckpoint(Checkpoint):
    """An object of a store, from which any machine goes on.

    Args:
        store: Where it lies.
        key: Its name there.
    """

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store, self._key = store, key
        self.name = f"{store.uri}/{key}"

    def _read(self) -> bytes | None:
        try:
            return self._store.read(self._key)
        except ObjectNotFound:
            return None

    def _write(self, content: bytes) -> None:
        # As a stream it goes up in parts, of which a lost one is sent again alone.
        self._store.write(self._key, io.BytesIO(content))

    def clear(self) -> None:
        """See ``Checkpoint``."""
        self._store.delete(self._key)


def decode(content: bytes) -> dict[str, Any]:
    """Give the state that was saved; nothing in it runs code."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state
