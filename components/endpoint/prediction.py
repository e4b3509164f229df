"""The answer to one image, as the endpoint gives it and as clients read it."""

import msgspec

from components.culture import ABNORMAL_MODEL, CULTURE_MODEL


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What every model says of an image.

    Attributes:
        abstain: Whether the model refuses to decide; a person must look.
        reason: Why it abstains: ``unsure``, where its confidence lies below what the model asks for, or
            ``out_of_distribution``, where the image is unlike all that the model learnt from.
        note: The same as a sentence for a person.
        novelty: How unlike its training images this one is; the model abstains above 1. None where it cannot tell.
        model: Registered model.
        model_version: Version in the model registry.
        data_version: Data version that the model was trained on.
        digest: The model's digest, which fixes every byte of it.
    """

    abstain: bool
    reason: str | None
    note: str | None = None
    novelty: float | None = None
    model: str
    model_version: str
    data_version: str
    digest: str


class Prediction(_Answer, frozen=True, kw_only=True):
    """How confluent the culture on an image is; ``_Answer`` has the rest.

    Attributes:
        confluence_class: 1 to 4; ``class`` in JSON.
        name: Name of the class, such as ``media change``.
        probabilities: Calibrated probability by class name.
        confidence: The highest probability.
        decision: What the process does next; None where the model abstains.
    """

    confluence_class: int = msgspec.field(name="class")
    name: str
    probabilities: dict[str, float]
    confidence: float
    decision: str | None


class Cell(msgspec.Struct, frozen=True):
    """One abnormal cell.

    Attributes:
        box: x1, y1, x2, y2 in pixels of the upright image.
        score: From the threshold of the answer, ``min_score``, to 1.
    """

    box: tuple[float, float, float, float]
    score: float


class CellsPrediction(_Answer, frozen=True, kw_only=True):
    """The abnormal cells on an image; ``_Answer`` has the rest.

    Attributes:
        cells: Those of the highest score first.
        count: Of the cells.
        min_score: Score from which on a box is given out.
        width: Of the upright image, pixels.
        height: Of the upright image, pixels.
    """

    cells: tuple[Cell, ...]
    count: int
    min_score: float
    width: int
    height: int


class CulturePrediction(msgspec.Struct, frozen=True, kw_only=True):
    """All that the endpoint knows of an image.

    Attributes:
        modality: As the request gave it.
        confluence: How confluent the culture is.
        abnormal_cells: None for multi-stack images, and where no model for them is served.
    """

    modality: str
    confluence: Prediction
    abnormal_cells: CellsPrediction | None


AnyPrediction = Prediction | CellsPrediction | CulturePrediction


def answer_type(model: str) -> type[AnyPrediction]:
    """Give what a model of this name answers with."""
    kinds: dict[str, type[AnyPrediction]] = {CULTURE_MODEL: CulturePrediction, ABNORMAL_MODEL: CellsPrediction}
    return kinds.get(model, Prediction)
