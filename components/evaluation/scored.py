"""A model's answers for the images of one part of a split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.culture import N_CLASSES
from components.evaluation.metrics import Measured, measure, predicted_classes
from components.evaluation.resampling import RESAMPLES, Floats, Integers
from components.imaging import probabilities


@dataclass(frozen=True, eq=False)
class Scored:
    """A model's answers for some images.

    Attributes:
        model: Digest of the model.
        paths: Of the images within their data version, shape (N,).
        sha256s: Of the image files' bytes.
        groups: What a split keeps whole, usually the vessel.
        slices: For each field of ``scoring.SLICE_FIELDS``, each image's value as text; '' where unknown.
        truth: Classes 1 to 4, shape (N,).
        logits: Shape (N, 4).
        temperature: What logits are divided by before the softmax.
        majority_class: Commonest class, 1 to 4, of the training part of the same split.
        learnt: How many of the images the model learnt from; None where nobody can tell.
        bundle: Folder that the model was read from; None for answers that came without a model.
    """

    model: str
    paths: tuple[str, ...]
    sha256s: tuple[str, ...]
    groups: tuple[str, ...]
    slices: dict[str, tuple[str, ...]]
    truth: Integers
    logits: Floats
    temperature: float
    majority_class: int
    learnt: int | None = 0
    bundle: Path | None = None

    def __post_init__(self) -> None:
        shapes = {len(self.paths), len(self.sha256s), len(self.groups), len(self.truth), len(self.logits)}
        shapes |= {len(values) for values in self.slices.values()}
        if len(shapes) > 1 or self.logits.shape[1:] != (N_CLASSES,):
            raise ValueError(f"answers of lengths {sorted(shapes)} and logits of shape {self.logits.shape}")

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def probabilities(self) -> Floats:
        """Calibrated probabilities, shape (N, 4)."""
        return probabilities(self.logits, self.temperature)

    @property
    def predicted(self) -> Integers:
        """Classes 1 to 4, shape (N,)."""
        return predicted_classes(self.logits)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each answer is the label, shape (N,)."""
        return np.equal(self.predicted, self.truth)

    def measured(self, resamples: int = RESAMPLES, seed: int = 0) -> Measured:
        """Measure the answers; see ``components.evaluation.metrics.measure``."""
        return measure(
            self.truth,
            self.probabilities,
            self.groups,
            majority_class=self.majority_class,
            resamples=resamples,
            seed=seed,
        )
