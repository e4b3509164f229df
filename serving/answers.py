"""How a request is answered, in the protocols v1 and v2; what the request says is read by ``serving.protocol``."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from kserve import InferOutput, InferResponse

from components.endpoint.prediction import (
    AnyPrediction,
    CellsPrediction,
    CulturePrediction,
    Prediction,
    answer_type,
)
from serving.protocol import Images
from serving.refusals import Refusal

# The count of abnormal cells where nothing looked for them.
NOT_LOOKED_FOR = -1
_DTYPES: dict[str, Any] = {"prediction": object, "class": np.int32, "probabilities": np.float32, "count": np.int32}
_OUTPUT_TYPES = {
    "prediction": {"name": "prediction", "datatype": "BYTES", "shape": [-1]},
    "class": {"name": "class", "datatype": "INT32", "shape": [-1]},
    "probabilities": {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
    "count": {"name": "count", "datatype": "INT32", "shape": [-1]},
}


def output_types(model: str) -> list[dict[str, Any]]:
    """Give the v2 protocol's description of what a model of this name answers."""
    return [_OUTPUT_TYPES[name] for name in _outputs_of(answer_type(model))]


def encode_v1(predictions: Sequence[AnyPrediction]) -> bytes:
    """Give the JSON body of a v1 answer."""
    return msgspec.json.encode({"predictions": predictions})


def encode_v2(model: str, version: str, images: Images, predictions: Sequence[AnyPrediction]) -> InferResponse:
    """Give a v2 answer: each prediction as JSON text, and what has numbers as tensors."""
    first = predictions[0]
    known = _outputs_of(type(first))
    wanted = list(known) if images.outputs is None else [output.name for output in images.outputs]
    for name in wanted:
        if name not in known:
            raise Refusal(f"there is no output '{name[:50]}'; ask for {', '.join(known)}")
    traced = (
        {} if isinstance(first, CulturePrediction) else {"digest": first.digest, "data_version": first.data_version}
    )
    return InferResponse(
        response_id=images.request_id,
        model_name=model,
        model_version=version,
        infer_outputs=[_output(name, predictions) for name in dict.fromkeys(wanted)],
        parameters=traced,
        use_binary_outputs=images.binary,
        requested_outputs=images.outputs,
    )


def _outputs_of(kind: type[AnyPrediction]) -> tuple[str, ...]:
    return {
        Prediction: ("prediction", "class", "probabilities"),
        CellsPrediction: ("prediction", "count"),
        CulturePrediction: ("prediction", "class", "probabilities", "count"),
    }[kind]


def _output(name: str, predictions: Sequence[AnyPrediction]) -> InferOutput:
    values = np.array([_value(name, each) for each in predictions], _DTYPES[name])
    return InferOutput(name, list(values.shape), _OUTPUT_TYPES[name]["datatype"], values)


def _value(name: str, prediction: AnyPrediction) -> Any:
    match name, prediction:
        case "prediction", _:
            return msgspec.json.encode(prediction).decode()
        case "count", CellsPrediction():
            return prediction.count
        case "count", CulturePrediction():
            return prediction.abnormal_cells.count if prediction.abnormal_cells else NOT_LOOKED_FOR
        case _, CulturePrediction():
            return _value(name, prediction.confluence)
        case "class", Prediction():
            return prediction.confluence_class
        case "probabilities", Prediction():
            return list(prediction.probabilities.values())
    raise KeyError(name)
