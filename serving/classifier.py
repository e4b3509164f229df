"""A model version that tells how confluent a culture is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.bundle import KNOWN_IMAGE_FILE, Bundle
from components.culture import CLASS_NAMES, N_CLASSES, ConfluenceClass
from components.endpoint.prediction import Prediction
from components.imaging import preprocess, probabilities
from serving.loaded import LoadedModel, ModelRejected, Prepared, batches


@dataclass(frozen=True)
class Classifier(LoadedModel):
    """A model version that tells how confluent a culture is."""

    bundle: Bundle

    def check(self, known_image: bytes) -> None:
        """See ``LoadedModel.check``."""
        if self.bundle.classes != CLASS_NAMES:
            raise ModelRejected(f"its classes are {', '.join(self.bundle.classes)}, not {', '.join(CLASS_NAMES)}")
        side = self.bundle.preprocessing.size
        # Two, so that a batch frozen at one is found.
        shape = self._probabilities(np.zeros((2, 3, side, side), np.float32)).shape
        if shape != (2, N_CLASSES):
            raise ModelRejected(f"two images gave an answer of shape {shape}, not (2, {N_CLASSES})")
        self._check_known_answer(known_image)

    def infer(self, prepared: Sequence[Prepared]) -> list[Prediction]:
        """See ``LoadedModel.infer``."""
        answers = [self._probabilities(batch) for batch in batches(prepared, self.bundle.preprocessing)]
        rows = np.concatenate(answers)
        return [self._prediction(item, row) for item, row in zip(prepared, rows, strict=True)]

    def describe(self) -> dict[str, Any]:
        """See ``LoadedModel.describe``."""
        return {**super().describe(), "classes": list(self.bundle.classes)}

    def _probabilities(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        logits = self.session.run(None, {self.session.get_inputs()[0].name: inputs})[0]
        return probabilities(logits, self.bundle.temperature)

    def _prediction(self, item: Prepared, row: NDArray[np.float64]) -> Prediction:
        best, least = int(row.argmax()), self.bundle.min_confidence
        confidence = float(row[best])
        unsure = (
            f"the model is only {confidence:.0%} sure, and decides from {least:.0%}" if confidence < least else None
        )
        outcome = self._outcome(item, unsure)
        return Prediction(
            confluence_class=best + 1,
            name=self.bundle.classes[best],
            probabilities=dict(zip(self.bundle.classes, row.tolist(), strict=True)),
            confidence=confidence,
            decision=None if outcome["abstain"] else ConfluenceClass(best + 1).decision.value,
            **outcome,
            **self._identity(),
        )

    def _check_known_answer(self, image: bytes) -> None:
        known = self.bundle.known
        answer = self._probabilities(preprocess(image, self.bundle.preprocessing)[np.newaxis])[0]
        expected = np.asarray(known.probabilities)
        # Written so that a NaN fails too.
        if expected.shape != answer.shape or not float(np.abs(answer - expected).max()) <= known.tolerance:
            got = ", ".join(f"{value:.3f}" for value in answer)
            want = ", ".join(f"{value:.3f}" for value in expected)
            raise ModelRejected(f"{KNOWN_IMAGE_FILE} was answered ({got}) instead of ({want})")
