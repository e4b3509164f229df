"""One model version in memory, whatever it answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from components.bundle import Bundle, DetectorBundle
from components.culture import Modality
from components.endpoint.prediction import CellsPrediction, Prediction
from components.imaging import Pixels, Preprocessing, arrange, as_picture, normalise
from components.novelty import Familiar, Floats, Verdict, describe
from serving.refusals import Refusal

# ONNX Runtime's errors have no base class of their own.
ORT_ERRORS = tuple(
    item for item in vars(onnxruntime_pybind11_state).values() if isinstance(item, type) and issubclass(item, Exception)
)
# Why a model abstains.
UNSURE, OUT_OF_DISTRIBUTION = "unsure", "out_of_distribution"
# Images that go through the network together; more only takes more memory.
BATCH = 8


class ModelRejected(Exception):
    """A model that cannot be served; the message says why."""


class Prepared(NamedTuple):
    """What a model keeps of an image until it is asked.

    Attributes:
        pixels: uint8, shape (S, S, 3).
        width: Of the upright image, pixels.
        height: Of the upright image, pixels.
        description: What ``components.novelty.describe`` gave for it; None where the bundle cannot compare it.
        verdict: Whether it looks like the training images; None likewise.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    description: Floats | None
    verdict: Verdict | None


@dataclass(frozen=True)
class LoadedModel(ABC):
    """A model version that is ready to answer; it never changes.

    Attributes:
        familiar: What its training images look like; None where the bundle does not tell.
    """

    name: str
    version: str
    digest: str
    session: ort.InferenceSession
    familiar: Familiar | None
    bundle: Bundle | DetectorBundle

    @abstractmethod
    def check(self, known_image: bytes) -> None:
        """Run it once on two images, and make sure that it answers its known image as it did when it was evaluated.

        Raises:
            ModelRejected: if it must not be served.
        """

    @abstractmethod
    def infer(self, prepared: Sequence[Prepared]) -> Sequence[Prediction | CellsPrediction]:
        """Answer for images that ``prepare`` gave, in their order."""

    def prepare(self, image: Pixels, modality: Modality | None, description: Floats | None = None) -> Prepared:
        """Bring an image to the network's size, and look whether the network can know such images.

        Args:
            image: RGB, shape (height, width, 3), or a picture.
            modality: As the request gave it, if it did.
            description: What ``components.novelty.describe`` gave for it, where that is known already.

        Raises:
            Refusal: if the model was not made for this modality.
        """
        own = self.bundle.modality
        if modality not in {None, own}:
            raise Refusal(f"{self.name} is for {own} images, not for {modality}; ask the model of that modality")
        picture = as_picture(image)
        width, height = picture.size
        pixels = arrange(picture, self.bundle.preprocessing)
        if self.familiar is None:
            return Prepared(pixels, width, height, None, None)
        description = describe(picture) if description is None else description
        return Prepared(pixels, width, height, description, self.familiar.judge(picture, description))

    def describe(self) -> dict[str, Any]:
        """Which version this is, for clients."""
        bundle = self.bundle
        return {
            "version": self.version,
            "digest": self.digest,
            "data_version": bundle.data_version,
            "modality": bundle.modality.value,
        }

    def _outcome(self, item: Prepared, unsure: str | None = None) -> dict[str, Any]:
        """Whether the model abstains on an image; being foreign weighs more than being unsure."""
        verdict = item.verdict
        foreign = verdict.note if verdict else None
        reason = OUT_OF_DISTRIBUTION if foreign else UNSURE if unsure else None
        return {
            "abstain": reason is not None,
            "reason": reason,
            "note": foreign or unsure,
            "novelty": round(verdict.novelty, 3) if verdict else None,
        }

    def _identity(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "model_version": self.version,
            "data_version": self.bundle.data_version,
            "digest": self.digest,
        }


def batches(prepared: Sequence[Prepared], prep: Preprocessing) -> list[NDArray[np.float32]]:
    """Give the network's input, ``BATCH`` images at a time; each of shape (n, 3, S, S)."""
    starts = range(0, len(prepared), BATCH)
    return [normalise(np.stack([item.pixels for item in prepared[start : start + BATCH]]), prep) for start in starts]
