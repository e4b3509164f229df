"""What a detector finds in the images of one part of a split."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.boxes import Boxes, match
from components.bundle import MODEL_FILE, DetectorBundle, read_any_bundle
from components.datasets.arrays import load_arrays
from components.datasets.boxed import load_boxes
from components.datasets.manifest import ImageRecord
from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.errors import IntegrityError
from components.evaluation.detection import measure_detections
from components.evaluation.metrics import Measured
from components.evaluation.resampling import RESAMPLES, Floats, Integers
from components.evaluation.scoring import images_of, open_session, slices_of
from components.imaging import Preprocessing, normalise
from components.storage import open_store

_BATCH = 16
_ENDS = ["images", "boxes", "scores", "image"]


class BoxNetwork:
    """A detector in ONNX Runtime, on the CPU.

    Args:
        path: The ``model.onnx``.
        preprocessing: What it was trained with.

    Raises:
        IntegrityError: if the file is no detector.
    """

    def __init__(self, path: Path, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self._session = open_session(path, _ENDS)

    def find(self, images: NDArray[np.uint8]) -> Boxes:
        """Find abnormal cells in decoded and resized images, shape (N, S, S, 3)."""
        starts = range(0, len(images), _BATCH)
        batches = (np.asarray(images[start : start + _BATCH]) for start in starts)
        return joined([self.find_in(normalise(batch, self.preprocessing)) for batch in batches])

    def find_in(self, batch: NDArray[np.float32]) -> Boxes:
        """Find abnormal cells in preprocessed images, shape (N, 3, S, S)."""
        boxes, scores, image = self._session.run(_ENDS[1:], {"images": batch})
        order = np.argsort(image, kind="stable")
        return Boxes(boxes[order].astype(np.float64), scores[order].astype(np.float64), image[order], len(batch))


def joined(parts: Sequence[Boxes]) -> Boxes:
    """Put boxes on several series of images one after another."""
    firsts = np.cumsum([0, *(part.images for part in parts)])
    numbers = [part.image + first for part, first in zip(parts, firsts[:-1], strict=True)]
    nothing = Boxes.of([])
    return Boxes(
        np.concatenate([nothing.corners, *(part.corners for part in parts)]),
        np.concatenate([nothing.scores, *(part.scores for part in parts)]),
        np.concatenate([nothing.image, *numbers]),
        int(firsts[-1]),
    )


@dataclass(frozen=True, eq=False)
class BoxScored:
    """What a detector found in some images, and what there was to find.

    Attributes:
        model: Digest of the model.
        paths: Of the images within their data version, shape (N,).
        sha256s: Of the image files' bytes.
        groups: What a split keeps whole, usually the vessel.
        slices: For each field of ``SLICE_FIELDS``, each image's value as text; '' where unknown.
        positive: Labels of the true boxes.
        truth: Every abnormal cell.
        found: The detector's boxes, down to a low score.
        threshold: Score from which on they count.
        iou: Overlap from which on a found box counts as the true one.
        learnt: How many of the images the model learnt from; None where nobody can tell.
        bundle: Folder that the model was read from; None for boxes that came without a model.
    """

    model: str
    paths: tuple[str, ...]
    sha256s: tuple[str, ...]
    groups: tuple[str, ...]
    slices: dict[str, tuple[str, ...]]
    positive: tuple[str, ...]
    truth: Boxes
    found: Boxes
    threshold: float
    iou: float
    learnt: int | None = 0
    bundle: Path | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def given(self) -> Boxes:
        """The boxes that count."""
        return self.found.above(self.threshold)

    @property
    def tallies(self) -> Floats:
        """Right boxes, given boxes and true boxes of each image, shape (3, N)."""
        given = self.given
        right = given.take(match(self.truth, given, self.iou) >= 0)
        return np.stack([right.counts, given.counts, self.truth.counts]).astype(np.float64)

    def measured(self, resamples: int = RESAMPLES, seed: int = 0) -> Measured:
        """Measure the boxes; see ``components.evaluation.detection.measure_detections``."""
        return measure_detections(
            self.truth,
            self.found,
            self.groups,
            threshold=self.threshold,
            iou=self.iou,
            resamples=resamples,
            seed=seed,
        )

    def of_images(self, rows: Integers) -> "BoxScored":
        """Give the part of it that is about some images, by ascending row."""
        return BoxScored(
            model=self.model,
            paths=tuple(self.paths[row] for row in rows),
            sha256s=tuple(self.sha256s[row] for row in rows),
            groups=tuple(self.groups[row] for row in rows),
            slices={field: tuple(values[row] for row in rows) for field, values in self.slices.items()},
            positive=self.positive,
            truth=self.truth.of_images(rows),
            found=self.found.of_images(rows),
            threshold=self.threshold,
            iou=self.iou,
        )


def score_detector(
    store_uri: str,
    split_id: str,
    bundle_dir: Path,
    cache: Path,
    *,
    positive: Collection[str] | None = None,
    part: str = "test",
) -> BoxScored:
    """Score a detector's version on a part of a split.

    Args:
        store_uri: Object store that holds the split and its images.
        split_id: The split's digest.
        bundle_dir: The model version's folder; its digests are checked.
        cache: Folder of the decoded images.
        positive: Labels of the boxes to be found; None takes those that the detector learnt.
        part: One of ``train``, ``validation``, ``test``.

    Raises:
        IntegrityError: if the bundle is altered or incomplete, or no detector's.
        DataError: if the part holds no images.
    """
    bundle, digest = read_any_bundle(bundle_dir)
    if not isinstance(bundle, DetectorBundle):
        raise IntegrityError(f"{bundle_dir} holds {bundle.model_name}, a model for {bundle.task}, and no detector")
    repository = DataRepository(open_store(store_uri, must_exist=True), cache=cache)
    records = images_of(load_split(repository, split_id), part, split_id)
    network = BoxNetwork(bundle_dir / MODEL_FILE, bundle.preprocessing)
    found = network.find(load_arrays(repository, records, bundle.preprocessing, cache))
    labels = tuple(positive or bundle.positive)
    truth = true_boxes(repository, records, labels, cache)
    return box_scored(digest, records, truth, found, positive=labels, threshold=bundle.min_score, iou=bundle.iou)


def true_boxes(
    repository: DataRepository, records: Sequence[ImageRecord], positive: Collection[str], cache: Path
) -> Boxes:
    """Give the abnormal cells of images."""
    boxes, abnormal = load_boxes(repository, records, positive, cache)
    return boxes.take(abnormal)


def box_scored(
    model: str,
    records: Sequence[ImageRecord],
    truth: Boxes,
    found: Boxes,
    *,
    positive: tuple[str, ...],
    threshold: float,
    iou: float,
) -> BoxScored:
    """Put what a detector found together with what is known of the images."""
    return BoxScored(
        model=model,
        paths=tuple(record.path for record in records),
        sha256s=tuple(record.sha256 for record in records),
        groups=tuple(record.split_group for record in records),
        slices=slices_of(records),
        positive=positive,
        truth=truth,
        found=found,
        threshold=threshold,
        iou=iou,
    )
