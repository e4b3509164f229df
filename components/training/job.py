"""The job file: everything that one training needs to know, the same alone and under ``torchrun``."""

import hashlib
import os
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.culture import Modality
from components.errors import SettingsError
from components.models.champion import champion_weights
from components.models.weights import Weights, find_weights
from components.settings import DetectionSettings, TrainingSettings
from components.training.sent import SentWeights

# Raised when the loop changes so that an older checkpoint must not be continued.
_LOOP = 3
# How the work is divided; a batch is the same however it is, and so one division goes on where another stopped.
_DIVISION = {"processes", "micro_batch"}


class Job(BaseModel):
    """One training.

    Attributes:
        store_uri: Object store of the split and its images.
        learning_rate: Of the head; the backbone trains at ``settings.backbone_rate`` of it.
        output: Folder that gets ``model.onnx`` and ``training.json``.
        home: Folder that keeps checkpoints and resized images.
        detection: How abnormal cells are found; None where the confluence is classified.
        mlflow_uri: Tracking server, None to track nothing.
        champion: Digest of the model whose weights it goes on from; None for those of ``settings.weights``.
        first: The first weights themselves, where the job travels; they go before the two.
        keep: Keep the state of the finished fit, so that doing it again costs nothing, until ``forget``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store_uri: str
    split_id: str
    modality: Modality
    learning_rate: float = Field(gt=0)
    settings: TrainingSettings
    detection: DetectionSettings | None = None
    output: Path
    home: Path
    mlflow_uri: str | None = None
    champion: str | None = None
    first: SentWeights | None = None
    keep: bool = False

    def first_weights(self) -> Weights:
        """Find the weights that it starts from.

        Raises:
            SettingsError: if those of the settings cannot be found.
            IntegrityError: if the champion's, or those that travelled, are not what they were.
        """
        if self.first is not None:
            return self.first.fetch(self.store_uri, self.home / "first-weights")
        if self.champion is not None:
            return champion_weights(self.home, self.champion)
        return find_weights(self.settings.backbone, self.settings.weights)

    def fingerprint(self, weights: Weights) -> str:
        """Name this very training in 16 digits; another seed, split, weight or release of torch is another one."""
        matters = self.model_dump_json(
            include={"split_id", "modality", "learning_rate", "settings", "detection"},
            exclude={"settings": _DIVISION},
        )
        text = f"{_LOOP} {matters} {weights.sha256} {torch.__version__}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def checkpoint_folder(self, weights: Weights) -> Path:
        """Where the state of this very training is kept."""
        return self.home / "checkpoints" / self.fingerprint(weights)


def write_job(job: Job, path: Path) -> None:
    """Write a job file, as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(job.model_dump_json(indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def read_job(path: Path) -> Job:
    """Read a job file.

    Raises:
        SettingsError: if there is none, or it is not one.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"--job '{path}' cannot be read ({error.strerror}); give the path of a job file") from error
    return parse_job(content, str(path))


def parse_job(content: bytes, name: str) -> Job:
    """Read the content of a job file.

    Raises:
        SettingsError: naming the file, if it is not one.
    """
    try:
        return Job.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"--job '{name}': '{field}': {first['msg']}") from error
