"""One model version in memory: checked, warmed, and proven on an image with a known answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from components.bundle import KNOWN_IMAGE_FILE, MODEL_FILE, Bundle, read_bundle
from components.culture import CLASS_NAMES, N_CLASSES, ConfluenceClass
from components.endpoint.files import WantedModel
from components.endpoint.prediction import Prediction
from components.errors import ImageError, IntegrityError
from components.imaging import arrange, decode, normalise, preprocess, probabilities
from serving.refusals import Refusal, TooLarge

# ONNX Runtime's errors have no base class of their own.
ORT_ERRORS = tuple(
    item for item in vars(onnxruntime_pybind11_state).values() if isinstance(item, type) and issubclass(item, Exception)
)
# Images that go through the network together; more only takes more memory.
BATCH = 8


class ModelRejected(Exception):
    """A model that cannot be served; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        image_bytes: Bytes of one encoded image.
        pixels: Pixels of one image; checked before it is decoded.
        images: Images of one request.
    """

    image_bytes: int
    pixels: int
    images: int

    @property
    def body_bytes(self) -> int:
        """Bytes of one request: a largest image as base64 text, and some room for what surrounds it."""
        return self.image_bytes * 4 // 3 + 65_536


@dataclass(frozen=True)
class LoadedModel:
    """A model version that is ready to answer; it never changes."""

    name: str
    version: str
    digest: str
    bundle: Bundle
    session: ort.InferenceSession

    @classmethod
    def load(cls, name: str, wanted: WantedModel, threads: int) -> Self:
        """Read a bundle, check every digest in it, warm it and try its known image.

        Args:
            name: Name under which it will be served.
            wanted: Where it lies, and its digest as the registry records it.
            threads: Threads of one inference.

        Raises:
            ModelRejected: if it must not be served.
        """
        folder = Path(wanted.path)
        try:
            bundle, digest = read_bundle(folder, wanted.digest)
            _check_identity(bundle, name)
            model = cls(name, wanted.version, digest, bundle, _open_session(folder / MODEL_FILE, threads))
            model._warm()
            model._check_known_answer((folder / KNOWN_IMAGE_FILE).read_bytes())
        except (IntegrityError, ImageError, OSError, MemoryError) as error:
            raise ModelRejected(str(error)) from error
        except ORT_ERRORS as error:
            first_line = str(error).splitlines()[0]
            raise ModelRejected(f"ONNX Runtime refuses {folder / MODEL_FILE}: {first_line}") from error
        return model

    def predict(self, images: list[bytes], limits: Limits) -> list[Prediction]:
        """Answer for encoded images, in their order.

        Raises:
            Refusal: if an image cannot be used; the message says which, where there are several.
        """
        side = self.bundle.preprocessing.size
        batch = np.empty((len(images), side, side, 3), np.uint8)
        for index, image in enumerate(images):
            batch[index] = arrange(_decode(image, limits, index, len(images)), self.bundle.preprocessing)
        parts = [self._infer(batch[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        return [self._prediction(row) for row in np.concatenate(parts)]

    def _infer(self, batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        return self._probabilities(normalise(batch, self.bundle.preprocessing))

    def _probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        logits = self.session.run(None, {self.session.get_inputs()[0].name: inputs})[0]
        return probabilities(logits, self.bundle.temperature)

    def _prediction(self, row: NDArray[np.float64]) -> Prediction:
        best = int(row.argmax())
        confidence = float(row[best])
        unsure = confidence < self.bundle.min_confidence
        return Prediction(
            confluence_class=best + 1,
            name=self.bundle.classes[best],
            probabilities=dict(zip(self.bundle.classes, row.tolist(), strict=True)),
            confidence=confidence,
            decision=None if unsure else ConfluenceClass(best + 1).decision.value,
            abstain=unsure,
            reason="unsure" if unsure else None,
            model=self.name,
            model_version=self.version,
            data_version=self.bundle.data_version,
            digest=self.digest,
        )

    def _warm(self) -> None:
        """Run it once on two images, so that memory is laid out and a batch frozen at one is found."""
        side = self.bundle.preprocessing.size
        shape = self._probabilities(np.zeros((2, 3, side, side), np.float32)).shape
        if shape != (2, N_CLASSES):
            raise ModelRejected(f"two images gave an answer of shape {shape}, not (2, {N_CLASSES})")

    def _check_known_answer(self, image: bytes) -> None:
        known = self.bundle.known
        answer = self._probabilities(preprocess(image, self.bundle.preprocessing)[np.newaxis])[0]
        expected = np.asarray(known.probabilities)
        # Written so that a NaN fails too.
        if expected.shape != answer.shape or not float(np.abs(answer - expected).max()) <= known.tolerance:
            got = ", ".join(f"{value:.3f}" for value in answer)
            want = ", ".join(f"{value:.3f}" for value in expected)
            raise ModelRejected(f"{KNOWN_IMAGE_FILE} was answered ({got}) instead of ({want})")


def _open_session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads that spin would take the processor from the threads that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _check_identity(bundle: Bundle, name: str) -> None:
    if bundle.model_name != name:
        raise ModelRejected(f"it is a version of {bundle.model_name}, not of {name}")
    if bundle.classes != CLASS_NAMES:
        raise ModelRejected(f"its classes are {', '.join(bundle.classes)}, not {', '.join(CLASS_NAMES)}")


def _decode(image: bytes, limits: Limits, index: int, count: int) -> NDArray[np.uint8]:
    where = f"image {index + 1} of {count}: " if count > 1 else ""
    if len(image) > limits.image_bytes:
        message = f"{where}{len(image)} bytes are more than the {limits.image_bytes} that an image may have"
        raise TooLarge(message, reason="too_large")
    try:
        return decode(image, max_pixels=limits.pixels)
    except ImageError as error:
        kind = TooLarge if error.reason == "too_large" else Refusal
        raise kind(f"{where}{error}", reason=error.reason) from error
