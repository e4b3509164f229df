"""The state of a fit after each epoch, from which it goes on after having been killed."""

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from components.errors import StorageError
from components.events import emit

FILE = "checkpoint.pt"
_DIGEST_BYTES = 32


class Checkpoint:
    """One file, replaced as a whole, so that a kill at any moment leaves the old or the new state.

    It is not flushed to the disk device: after a power cut an epoch may be lost or the file be
    damaged, which its digest tells, and then the fit starts again.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def load(self) -> dict[str, Any] | None:
        """Give the last saved state, None where there is none that is whole."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            emit("note", message=f"{self.path} is damaged; training starts again")
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state.

        Raises:
            StorageError: if the disk is full or cannot be written.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        partial = self.path.with_name(f"{FILE}.{os.getpid()}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(hashlib.sha256(buffer.getbuffer()).digest())
                file.write(buffer.getbuffer())
            partial.replace(self.path)
        except OSError as error:
            raise StorageError(
                f"checkpoint {self.path} cannot be written ({error}); free or unlock the disk"
            ) from error
        finally:
            if partial.is_file():
                partial.unlink()

    def clear(self) -> None:
        """Forget the saved state, and what killed processes left half written."""
        self.path.unlink(missing_ok=True)
        for partial in self.path.parent.glob(f"{FILE}.*.partial"):
            partial.unlink(missing_ok=True)
