"""What the steps before left for the evaluation: training's ``training.json`` and the search's trials."""

import shutil
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from components.bundle import MODEL_FILE, WEIGHTS_FILE, file_digest
from components.errors import IntegrityError
from components.evaluation.evidence import Epoch, Search
from components.imaging import Preprocessing

TRAINING_FILE = "training.json"

_Read = TypeVar("_Read")


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Where training started from."""

    source: str
    sha256: str | None = None

    def __str__(self) -> str:
        return f"{self.source} (SHA-256 {self.sha256[:12]})" if self.sha256 else self.source


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """What training tells of itself, as far as the evaluation needs it.

    Attributes:
        settings: Fields of ``components.settings.TrainingSettings``.
        preprocessing: Fields of ``components.imaging.Preprocessing``.
        environment: Library versions and hardware, as training names them.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    learning_rate: float
    settings: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: Weights
    environment: dict[str, Any] = {}

    @property
    def backbone(self) -> str:
        """Name of the backbone."""
        return str(self.settings["backbone"])

    @property
    def prepare(self) -> Preprocessing:
        """The preprocessing, typed."""
        return Preprocessing.model_validate(self.preprocessing)


def read_training(model_dir: Path) -> Training:
    """Read what training left beside its ``model.onnx``.

    Raises:
        IntegrityError: if a file is missing or is not of the expected form.
    """
    if not (model_dir / MODEL_FILE).is_file():
        raise IntegrityError(f"{model_dir} holds no {MODEL_FILE}; run the training step again")
    return _read(model_dir / TRAINING_FILE, Training)


def read_search(path: Path) -> Search:
    """Read the search's trials.

    Raises:
        IntegrityError: if the file is missing or is not of the expected form.
    """
    return _read(path, Search)


def take_weights(model_dir: Path, output: Path) -> str | None:
    """Put the weights that a training can go on from beside a bundle, and give their digest; None if there are none."""
    weights = model_dir / WEIGHTS_FILE
    if not weights.is_file():
        return None
    shutil.copyfile(weights, output / WEIGHTS_FILE)
    return file_digest(output / WEIGHTS_FILE)


def _read(path: Path, kind: type[_Read]) -> _Read:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read ({error.strerror}); run the step that writes it again") from error
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{path} is not what the evaluation expects: {error}") from error
