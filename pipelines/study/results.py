"""What came of one fold: a file that is there whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from components.culture import Modality, Task
from components.errors import StorageError
from components.evaluation.resampling import Floats, Integers

FORMAT = "mscflow-fold/1"


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What the folds of one row of a table have in common."""

    task: Task
    modality: Modality
    backbone: str
    protocol: str
    equalisation: str = "none"
    clumps: str = "kept"

    @property
    def name(self) -> str:
        """A name for files and lines of progress."""
        told = [self.modality, self.backbone, self.protocol]
        told += ["cells"] if self.task == Task.ABNORMAL_CELLS else []
        told += [self.equalisation] if self.equalisation != "none" else []
        told += ["masked"] if self.clumps == "masked" else []
        return "-".join(told)


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What a classifier said of the images of the scored fold."""

    paths: tuple[str, ...]
    sha256s: tuple[str, ...]
    groups: tuple[str, ...]
    truth: tuple[int, ...]
    logits: tuple[tuple[float, ...], ...]
    temperature: float

    @property
    def arrays(self) -> tuple[Integers, Floats]:
        """Classes (N,) and logits (N, 4)."""
        return np.array(self.truth, np.int64), np.array(self.logits, np.float64).reshape(len(self.truth), -1)


class FoldResult(msgspec.Struct, frozen=True, kw_only=True):
    """One fold, trained and scored.

    Attributes:
        key: Digest of all that the result depends on.
        fold: Its number from 1, or the value left out.
        seed: Of weights, order, augmentation and dropout.
        learning_rate: Fixed, or found by ``trials`` trials inside the training folds.
        weights: Where training started from.
        images: By part.
        groups: By part.
        history: Each epoch's figures.
        best_epoch: From 1; chosen on the validation part.
        state_sha256: Digest of the weights that were scored.
        figures: Of the scored fold; None where undefined.
        answers: Of a classifier.
        seconds: Of its epochs, trials not counted.
    """

    format: str = FORMAT
    key: str
    cell: Cell
    fold: str
    seed: int
    learning_rate: float
    trials: int
    weights: str
    images: dict[str, int]
    groups: dict[str, int]
    history: tuple[dict[str, float], ...]
    best_epoch: int
    state_sha256: str
    figures: dict[str, float | None]
    answers: Answers | None = None
    seconds: float
    device: str
    environment: dict[str, Any] = {}


def path_of(out: Path, cell: Cell, fold: str, key: str) -> Path:
    """Give the file of one fold's result; other settings or images are another file."""
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in fold)[:40]
    return out / "folds" / cell.name / f"{safe}-{key[:12]}.json"


def write_result(path: Path, result: FoldResult) -> None:
    """Write a result as a whole.

    Raises:
        StorageError: if the disk is full or cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise StorageError(f"{path} cannot be written ({error.strerror}); free or unlock the disk") from error


def read_result(path: Path, key: str) -> FoldResult | None:
    """Give a finished fold's result; None where there is none of this key and form, so that it is made again."""
    try:
        result = msgspec.json.decode(path.read_bytes(), type=FoldResult)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror}); mend its permissions") from error
    return result if (result.format, result.key) == (FORMAT, key) else None
