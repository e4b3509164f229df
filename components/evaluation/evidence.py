"""The evidence: everything that the report shows of a model version, as one JSON file in its bundle."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from components.errors import IntegrityError
from components.evaluation.baseline import Baseline
from components.evaluation.calibration import Bin, Calibration
from components.evaluation.curves import Curve
from components.evaluation.familiarity import Familiarity
from components.evaluation.metrics import Figure, Measured

FORMAT = "mscflow-evidence/1"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The model that was judged.

    Attributes:
        name: Registered name.
        sha256: Of ``model.onnx``.
        preprocessing: Fields of ``components.imaging.Preprocessing``.
        weights: Where training started from.
        settings: Fields of ``components.settings.TrainingSettings``.
    """

    name: str
    modality: str
    backbone: str
    sha256: str
    preprocessing: dict[str, Any]
    weights: str
    learning_rate: float
    settings: dict[str, Any]


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The images behind the model.

    Attributes:
        version: Digest of the data version.
        lineage: Whose test images are frozen.
        split_id: Digest of the split.
        counts: Images by part and class.
        groups: Split groups (vessels) by part.
        majority_class: Commonest class, 1 to 4, of the training part.
        quarantined: Images left out before the split, by reason; None where nobody told.
    """

    version: str
    lineage: str
    split_id: str
    counts: dict[str, dict[int, int]]
    groups: dict[str, int]
    majority_class: int
    quarantined: dict[str, int] | None = None


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over the training images; losses are cross-entropies in nats."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float = 0.0
    learning_rate: float | None = None


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One learning rate that the search tried; ``value`` is what it minimised, None without a result."""

    number: int
    lr: float
    value: float | None = None
    state: str = "complete"
    epochs: int = 0
    seconds: float = 0.0


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """The search over the learning rate."""

    trials: tuple[Trial, ...]
    sampler: str = ""
    seed: int | None = None


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The test images that share one value of one field."""

    field: str
    value: str
    n: int
    groups: int
    accuracy: Figure
    within_one_class: Figure


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One test image: classes 1 to 4 and calibrated probabilities; ``loss`` in nats."""

    path: str
    sha256: str
    group: str
    truth: int
    predicted: int
    probabilities: tuple[float, ...]
    loss: float


class Picture(msgspec.Struct, frozen=True):
    """A small copy of a test image; ``answer`` is its index in the evidence's answers."""

    answer: int
    uri: str


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the report shows of one model version.

    Attributes:
        best_epoch: The epoch whose weights the model has.
        measured: Figures on the test part.
        blind: The same figures of a model that answers every image with the classes' shares in training.
        baselines: What local contrast alone is worth on the test part; none in evidence from before there were any.
        confusion: Test images by truth (rows) and prediction (columns), 4 x 4.
        test_ece: Calibration error on the test part; `uncalibrated`, had the temperature been 1.
        bins: Reliability of the calibrated test answers.
        answers: Every test image, in the split's order.
        sheet: Pictures of test images, the worst (largest loss) first.
        environment: Of the evaluation; ``training_environment`` of the training.
        familiarity: How often it holds test images to be foreign; None in evidence from before it could tell.
    """

    format: str = FORMAT
    created: datetime
    model: Model
    data: Data
    measured: Measured
    blind: dict[str, float | None]
    confusion: tuple[tuple[int, ...], ...]
    slices: tuple[Slice, ...]
    roc: tuple[Curve, ...]
    precision_recall: tuple[Curve, ...]
    calibration: Calibration
    test_ece: float
    test_ece_uncalibrated: float
    bins: tuple[Bin, ...]
    history: tuple[Epoch, ...]
    best_epoch: int
    search: Search | None
    answers: tuple[Answer, ...]
    sheet: tuple[Picture, ...]
    code_version: str
    environment: dict[str, str]
    training_environment: Mapping[str, Any] = {}
    baselines: tuple[Baseline, ...] = ()
    familiarity: Familiarity | None = None


def write_evidence(evidence: Evidence, path: Path) -> None:
    """Write the evidence as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(evidence), indent=1) + b"\n")


def read_evidence(path: Path) -> Evidence:
    """Read evidence back.

    Raises:
        IntegrityError: if the file is missing or is no evidence of this format.
    """
    try:
        evidence = msgspec.json.decode(path.read_bytes(), type=Evidence)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}; download the model version again") from error
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{path} is not evidence of the format {FORMAT}: {error}") from error
    if evidence.format != FORMAT:
        raise IntegrityError(f"{path} has the format '{evidence.format}', not {FORMAT}; use the mscflow that wrote it")
    return evidence
