"""The evidence on a detector: everything that its report shows, as one JSON file in its bundle."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from components.errors import IntegrityError
from components.evaluation.curves import Curve
from components.evaluation.evidence import Model
from components.evaluation.familiarity import Familiarity
from components.evaluation.metrics import Figure, Measured

FORMAT = "mscflow-detector-evidence/1"

Corners = tuple[float, float, float, float]


class Count(msgspec.Struct, frozen=True):
    """What one part of a split holds: images, those with an abnormal cell, such cells, and split groups (vessels)."""

    images: int
    with_abnormal: int
    abnormal: int
    groups: int


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The images behind the detector.

    Attributes:
        version: Digest of the data version.
        lineage: Whose test images are frozen.
        split_id: Digest of the split.
        positive: Labels of the boxes that are abnormal cells.
        counts: By part.
        quarantined: Images left out before the split, by reason; None where nobody told.
    """

    version: str
    lineage: str
    split_id: str
    positive: tuple[str, ...]
    counts: dict[str, Count]
    quarantined: dict[str, int] | None = None


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over the training images; the loss is focal loss and smooth L1."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_average_precision: float
    seconds: float = 0.0
    learning_rate: float | None = None


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The test images that share one value of one field."""

    field: str
    value: str
    n: int
    groups: int
    cells: int
    figures: dict[str, Figure]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One test image: its abnormal cells, and of the boxes given for it the right and the false ones."""

    path: str
    sha256: str
    group: str
    cells: int
    right: int
    false: int

    @property
    def missed(self) -> int:
        """Abnormal cells that were not found."""
        return self.cells - self.right


class Mark(msgspec.Struct, frozen=True):
    """One box of a picture; ``kind`` is found, missed (both are true), right or false (both are the detector's)."""

    kind: str
    corners: Corners
    score: float | None = None


class Picture(msgspec.Struct, frozen=True):
    """A small copy of a test image with its boxes; ``answer`` is its index in the evidence's answers."""

    answer: int
    uri: str
    width: int
    height: int
    marks: tuple[Mark, ...]


class DetectorEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the report shows of one detector.

    Attributes:
        detection: Fields of ``components.settings.DetectionSettings``.
        threshold: Score from which on boxes count.
        rule: How it was chosen.
        iou: Overlap from which on a found box counts as the true one.
        measured: Figures on the test part; ``validation`` the same on the part that the threshold was chosen on.
        precision_recall: Precision over recall, as the score falls; its area is the average precision.
        froc: Recall over false boxes an image, as the score falls; its area is the mean recall at FROC's rates.
        best_epoch: The epoch whose weights the model has.
        answers: Every test image, in the split's order.
        sheet: Pictures of test images, those with most errors first.
        environment: Of the evaluation; ``training_environment`` of the training.
        familiarity: How often it holds test images to be foreign; None in evidence from before it could tell.
    """

    format: str = FORMAT
    created: datetime
    model: Model
    data: Data
    detection: dict[str, Any]
    threshold: float
    rule: str
    iou: float
    measured: Measured
    validation: Measured
    slices: tuple[Slice, ...]
    precision_recall: Curve
    froc: Curve
    history: tuple[Epoch, ...]
    best_epoch: int
    answers: tuple[Answer, ...]
    sheet: tuple[Picture, ...]
    code_version: str
    environment: dict[str, str]
    training_environment: Mapping[str, Any] = {}
    familiarity: Familiarity | None = None


def write_detector_evidence(evidence: DetectorEvidence, path: Path) -> None:
    """Write the evidence as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(evidence), indent=1) + b"\n")


def read_detector_evidence(path: Path) -> DetectorEvidence:
    """Read evidence back.

    Raises:
        IntegrityError: if the file is missing or is no evidence of this format.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=DetectorEvidence)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}; download the model version again") from error
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{path} is not evidence of the format {FORMAT}: {error}") from error
