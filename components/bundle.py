"""The bundle: the folder that a model version is, and nothing in it runs code when loaded.

    model.onnx       the network, logits out
    bundle.json      what serving must know of it, and the SHA-256 of every other file
    known.png        an image with a known answer, tried before the model may answer anybody else
    evidence.json    what the report shows and the gate judged by
    novelty.npz      what its training images look like, so that it can abstain on others; older bundles lack it

The SHA-256 of ``bundle.json`` is the model's digest: it fixes every byte of the folder.
"""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from components.culture import Modality
from components.errors import IntegrityError
from components.imaging import Preprocessing

BUNDLE_FILE = "bundle.json"
MODEL_FILE = "model.onnx"
KNOWN_IMAGE_FILE = "known.png"
EVIDENCE_FILE = "evidence.json"
# Not of the bundle: the registry keeps it beside, so that the endpoint need not fetch it.
WEIGHTS_FILE = "weights.safetensors"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KnownAnswer(_Strict):
    """What the model said of ``known.png`` when it was evaluated."""

    probabilities: tuple[float, ...]
    tolerance: float = 0.01


class KnownBoxes(_Strict):
    """What a detector found in ``known.png`` when it was evaluated.

    Attributes:
        boxes: x1, y1, x2, y2 as fractions of the image, those of the highest score first.
        scores: Of the boxes.
        tolerance: By which corners and scores may differ.
    """

    boxes: tuple[tuple[float, float, float, float], ...]
    scores: tuple[float, ...]
    tolerance: float = 0.01


class _Base(_Strict):
    """What is known of a model whatever it is asked.

    Attributes:
        code_version: Version of mscflow, and the commit where it is known.
        metrics: Test metrics by name.
        weights: SHA-256 of the weights that a training can go on from; None where they were not kept.
    """

    format: Literal["mscflow-bundle/1"] = "mscflow-bundle/1"
    model_name: str
    modality: Modality
    backbone: str
    preprocessing: Preprocessing
    data_version: Digest
    split_id: Digest
    code_version: str
    created: datetime
    metrics: dict[str, float]
    files: dict[str, Digest]
    weights: Digest | None = None


class Bundle(_Base):
    """Everything that serving must know of a model that tells the confluence.

    Attributes:
        temperature: What logits are divided by before the softmax, so that probabilities are calibrated.
        min_confidence: Answers whose highest probability lies below it abstain.
    """

    task: Literal["confluence"] = "confluence"
    classes: tuple[str, ...]
    temperature: float = Field(gt=0)
    min_confidence: float = Field(ge=0, le=1)
    known: KnownAnswer


class DetectorBundle(_Base):
    """Everything that serving must know of a model that finds abnormal cells.

    Attributes:
        positive: Labels of the boxes that it learnt to find.
        min_score: Boxes of a lower score do not count; chosen on validation images.
        iou: Overlap at which its figures count a box as found.
    """

    task: Literal["abnormal_cells"] = "abnormal_cells"
    positive: tuple[str, ...]
    min_score: float = Field(ge=0, le=1)
    iou: float = Field(gt=0, lt=1)
    known: KnownBoxes


AnyBundle = Annotated[Bundle | DetectorBundle, Field(discriminator="task")]
_any_bundle: TypeAdapter[Bundle | DetectorBundle] = TypeAdapter(AnyBundle)


def file_digest(path: Path) -> str:
    """Give the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bundle(folder: Path, bundle: Bundle | DetectorBundle) -> str:
    """Write ``bundle.json`` beside the files that it names and return the model's digest."""
    path = folder / BUNDLE_FILE
    path.write_text(bundle.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return file_digest(path)


def read_bundle(folder: Path, expected_digest: str | None = None) -> tuple[Bundle, str]:
    """Read the bundle of a model that tells the confluence; see ``read_any_bundle``.

    Raises:
        IntegrityError: also if it is a model that answers something else.
    """
    bundle, digest = read_any_bundle(folder, expected_digest)
    if not isinstance(bundle, Bundle):
        raise IntegrityError(
            f"{folder} holds {bundle.model_name}, a model for {bundle.task}; what is asked here is the confluence"
        )
    return bundle, digest


def read_any_bundle(folder: Path, expected_digest: str | None = None) -> tuple[Bundle | DetectorBundle, str]:
    """Read a bundle and check the digest of every file in it.

    Args:
        folder: Where the bundle lies.
        expected_digest: The model's digest as the registry records it.

    Returns:
        The bundle and the model's digest.

    Raises:
        IntegrityError: if a file is missing, altered, or not named by ``bundle.json``.
    """
    path = folder / BUNDLE_FILE
    if not path.is_file():
        raise IntegrityError(f"{folder} holds no {BUNDLE_FILE}: it is no model of mscflow, or its download broke off")
    digest = file_digest(path)
    if expected_digest is not None and digest != expected_digest:
        raise IntegrityError(f"{path} has digest {digest}, but the registry records {expected_digest}")
    try:
        bundle = _any_bundle.validate_json(path.read_bytes())
    except ValidationError as error:
        raise IntegrityError(f"{path} is not a bundle of this format: {error.errors()[0]['msg']}") from error
    for name in (MODEL_FILE, KNOWN_IMAGE_FILE):
        if name not in bundle.files:
            raise IntegrityError(f"{path} records no digest of {name}; export the model again")
    for name, expected in bundle.files.items():
        file = folder / name
        if not file.is_file():
            raise IntegrityError(f"{file} is missing; bundle.json names it")
        if (actual := file_digest(file)) != expected:
            raise IntegrityError(f"{file} has digest {actual}, but bundle.json records {expected}")
    return bundle, digest
