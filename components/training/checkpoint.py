"""The state of a fit after each epoch, from which it goes on after having been killed."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from components.errors import StorageError
from components.events import emit

FILE = "checkpoint.pt"


class Checkpoint:
    """One file, replaced as a whole, so that a kill at any moment leaves the old or the new state.

    It is not flushed to the disk device: after a power cut an epoch may be lost or the file be
    damaged, and a damaged file only means that the fit starts again.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def load(self) -> dict[str, Any] | None:
        """Give the last saved state, None where there is none that can be read."""
        try:
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
            emit("note", message=f"{self.path} cannot be read ({type(error).__name__}); training starts again")
            return None
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state.

        Raises:
            StorageError: if the disk is full or cannot be written.
        """
        partial = self.path.with_name(f"{FILE}.{os.getpid()}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(state, file)
            partial.replace(self.path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StorageError(
                f"checkpoint {self.path} cannot be written ({error}); free or unlock the disk"
            ) from error

    def clear(self) -> None:
        """Forget the saved state, and what killed processes left half written."""
        self.path.unlink(missing_ok=True)
        for partial in self.path.parent.glob(f"{FILE}.*.partial"):
            partial.unlink(missing_ok=True)
