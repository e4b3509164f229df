"""A model version that finds abnormal cells."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.bundle import KNOWN_IMAGE_FILE, DetectorBundle
from components.endpoint.prediction import Cell, CellsPrediction
from components.imaging import preprocess
from serving.loaded import LoadedModel, ModelRejected, Prepared, batches


class Found(NamedTuple):
    """Boxes on one image, those of the highest score first.

    Attributes:
        corners: x1, y1, x2, y2 as fractions of the image, shape (M, 4).
        scores: Shape (M,).
    """

    corners: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Detector(LoadedModel):
    """A model version that finds abnormal cells."""

    bundle: DetectorBundle

    def check(self, known_image: bytes) -> None:
        """See ``LoadedModel.check``."""
        prep = self.bundle.preprocessing
        # Two, so that a batch frozen at one is found.
        list(self._find(np.zeros((2, 3, prep.size, prep.size), np.float32)))
        (found,) = self._find(preprocess(known_image, prep)[np.newaxis])
        for corners, score in zip(self.bundle.known.boxes, self.bundle.known.scores, strict=True):
            if not self._holds(found, np.asarray(corners), score):
                box = ", ".join(f"{value:.3f}" for value in corners)
                raise ModelRejected(f"{KNOWN_IMAGE_FILE} has no box at ({box}) with a score of {score:.3f} any more")

    def infer(self, prepared: Sequence[Prepared]) -> list[CellsPrediction]:
        """See ``LoadedModel.infer``."""
        found = [each for batch in batches(prepared, self.bundle.preprocessing) for each in self._find(batch)]
        return [self._prediction(item, boxes) for item, boxes in zip(prepared, found, strict=True)]

    def describe(self) -> dict[str, Any]:
        """See ``LoadedModel.describe``."""
        return {**super().describe(), "positive": list(self.bundle.positive), "min_score": self.bundle.min_score}

    def _find(self, inputs: NDArray[np.float32]) -> Iterator[Found]:
        outputs = self.session.run(("boxes", "scores", "image"), {"images": inputs})
        corners, scores, image = outputs[0].astype(np.float64), outputs[1].astype(np.float64), outputs[2]
        if corners.shape != (len(scores), 4) or image.shape != scores.shape:
            raise ModelRejected(f"its outputs have the shapes {', '.join(str(each.shape) for each in outputs)}")
        for number in range(len(inputs)):
            rows = np.flatnonzero(image == number)
            rows = rows[np.argsort(-scores[rows], kind="stable")]
            yield Found(corners[rows], scores[rows])

    def _holds(self, found: Found, corners: NDArray[np.float64], score: float) -> bool:
        tolerance = self.bundle.known.tolerance
        off = np.maximum(np.abs(found.corners - corners).max(axis=1), np.abs(found.scores - score))
        return bool((off <= tolerance).any())

    def _prediction(self, item: Prepared, found: Found) -> CellsPrediction:
        kept = found.scores >= self.bundle.min_score
        pixels = np.clip(found.corners[kept], 0, 1) * [item.width, item.height, item.width, item.height]
        cells = [
            Cell((x1, y1, x2, y2), score)
            for (x1, y1, x2, y2), score in zip(
                pixels.round(1).tolist(), found.scores[kept].round(4).tolist(), strict=True
            )
        ]
        return CellsPrediction(
            cells=tuple(cells),
            count=len(cells),
            min_score=self.bundle.min_score,
            width=item.width,
            height=item.height,
            **self._outcome(item),
            **self._identity(),
        )
