"""Scoring: what a model says of the images of a split, by ONNX Runtime, as serving would say it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.bundle import MODEL_FILE, read_bundle
from components.culture import N_CLASSES
from components.datasets.arrays import load_arrays
from components.datasets.manifest import ImageRecord
from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.errors import DataError, IntegrityError, TrainingError
from components.evaluation.resampling import Floats, Integers
from components.evaluation.scored import Scored
from components.imaging import Preprocessing, normalise
from components.storage import open_store

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Whose values metrics are also given for, one by one.
SLICE_FIELDS = ("source", "batch", "day", "position", "donor", "lot", "passage")

_BATCH = 32


class Network:
    """A model in ONNX Runtime, on the CPU.

    Args:
        path: The ``model.onnx``.
        preprocessing: What it was trained with.

    Raises:
        IntegrityError: if the file is no model with the expected input and output.
    """

    def __init__(self, path: Path, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self._session = open_session(path, ["images", "logits"])

    def logits(self, images: NDArray[np.uint8]) -> Floats:
        """Score decoded and resized images, shape (N, S, S, 3); gives shape (N, 4)."""
        out = np.empty((len(images), N_CLASSES))
        for start in range(0, len(images), _BATCH):
            batch = np.asarray(images[start : start + _BATCH])
            out[start : start + len(batch)] = self.logits_of(normalise(batch, self.preprocessing))
        return out

    def logits_of(self, batch: NDArray[np.float32]) -> Floats:
        """Score preprocessed images, shape (N, 3, S, S); gives shape (N, 4).

        Raises:
            TrainingError: if an answer is not finite.
        """
        (result,) = self._session.run(["logits"], {"images": batch})
        if not np.isfinite(result).all():
            raise TrainingError(
                "the model answers with infinite or undefined numbers; train it at a lower learning rate"
            )
        return np.asarray(result, np.float64)


def score_bundle(store_uri: str, split_id: str, bundle_dir: Path, cache: Path, part: str = "test") -> Scored:
    """Score a model version on a part of a split.

    Args:
        store_uri: Object store that holds the split and its images.
        split_id: The split's digest.
        bundle_dir: The model version's folder; its digests are checked.
        cache: Folder of the decoded images.
        part: One of ``train``, ``validation``, ``test``.

    Raises:
        IntegrityError: if the bundle is altered or incomplete.
        DataError: if the part holds no images.
    """
    bundle, digest = read_bundle(bundle_dir)
    repository = DataRepository(open_store(store_uri, must_exist=True))
    parts = load_split(repository, split_id)
    records = images_of(parts, part, split_id)
    network = Network(bundle_dir / MODEL_FILE, bundle.preprocessing)
    logits = network.logits(load_arrays(repository, records, bundle.preprocessing, cache))
    return scored(digest, records, logits, temperature=bundle.temperature, majority_class=majority_class(parts))


def scored(
    model: str, records: Sequence[ImageRecord], logits: Floats, *, temperature: float, majority_class: int
) -> Scored:
    """Put a model's answers together with what is known of their images."""
    return Scored(
        model=model,
        paths=tuple(record.path for record in records),
        sha256s=tuple(record.sha256 for record in records),
        groups=tuple(record.split_group for record in records),
        slices=slices_of(records),
        truth=labels(records),
        logits=logits,
        temperature=temperature,
        majority_class=majority_class,
    )


def slices_of(records: Sequence[ImageRecord]) -> dict[str, tuple[str, ...]]:
    """Give each image's value of each field of ``SLICE_FIELDS`` as text; '' where unknown."""
    return {field: tuple(_text(getattr(record, field)) for record in records) for field in SLICE_FIELDS}


def images_of(parts: dict[str, list[ImageRecord]], part: str, split_id: str) -> list[ImageRecord]:
    """Give the images of one part of a split.

    Raises:
        DataError: if there are none.
    """
    if not (records := parts.get(part)):
        raise DataError(f"split {split_id[:12]} holds no images in its {part} part; make a new split of more images")
    return records


def majority_class(parts: dict[str, list[ImageRecord]]) -> int:
    """Give the commonest class, 1 to 4, of the training part; the lowest one of those equally common."""
    counts = Counter(int(label) for label in labels(parts["train"]))
    return min(counts, key=lambda label: (-counts[label], label), default=1)


def labels(records: Sequence[ImageRecord]) -> Integers:
    """Give the classes, 1 to 4, of labelled images, shape (N,).

    Raises:
        DataError: if an image has no label.
    """
    for record in records:
        if record.confluence_class is None:
            raise DataError(f"image '{record.path}' has no confluence class; label it or leave it out of the split")
    return np.array([record.confluence_class for record in records], np.int64)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def open_session(path: Path, ends: list[str]) -> "InferenceSession":
    """Open a model that has these inputs and outputs.

    Raises:
        IntegrityError: if it is none.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no other base in common
        raise IntegrityError(f"{path} is not a model that ONNX Runtime can load: {error}") from error
    found = [each.name for each in (*session.get_inputs(), *session.get_outputs())]
    if found != ends:
        raise IntegrityError(f"{path} has inputs and outputs {found}, not {ends}; train it again")
    return session
