"""What every server in the comparison does with an image: the project's own decoding and preprocessing, one session.

It needs no more than NumPy, Pillow, pydantic and ONNX Runtime, so that it runs in each rival's environment.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from components.imaging import Preprocessing, preprocess, probabilities


class Predictor:
    """Answers for one encoded image at a time.

    Args:
        bundle: Folder of ``model.onnx`` and ``bundle.json``.
        threads: Of one inference.
    """

    def __init__(self, bundle: str | Path, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # As the endpoint: threads that wait do not take the processor from those that decode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            Path(bundle, "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        described = json.loads(Path(bundle, "bundle.json").read_bytes())
        self._preprocessing = Preprocessing.model_validate(described["preprocessing"])
        self._temperature = described["temperature"]

    def logits(self, image: bytes) -> np.ndarray:
        """The bare work: decode, preprocess, infer; shape (1, 4)."""
        inputs = preprocess(image, self._preprocessing)[np.newaxis]
        answer: np.ndarray = self._session.run(None, {self._input: inputs})[0]
        return answer

    def answer(self, image: bytes) -> dict[str, Any]:
        """What a rival sends back."""
        row = probabilities(self.logits(image), self._temperature)[0]
        return {"class": int(row.argmax()) + 1, "probabilities": row.tolist()}
