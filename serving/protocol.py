"""What a request says and how it is answered, in the protocols v1 and v2 over REST, and v2 over gRPC.

Reading a body takes time in proportion to its images, so it is done where the images are decoded: in a
worker thread. A request is therefore handed on as a ``Body``, which is read by ``images()``.
"""

import base64
import binascii
import re
import struct
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np
from kserve import InferOutput, InferResponse
from kserve.protocol.infer_type import RequestedOutput

from components.endpoint.prediction import Prediction
from serving.refusals import Refusal, TooLarge

if TYPE_CHECKING:
    from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest

T = TypeVar("T")

INPUT_NAME = "image"
V1_EXAMPLE = '{"instances": [{"image": {"b64": "..."}}]}'
V2_EXAMPLE = '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["..."]}]}'
INPUT_TYPES = [{"name": INPUT_NAME, "datatype": "BYTES", "shape": [-1]}]
OUTPUT_TYPES = [
    {"name": "prediction", "datatype": "BYTES", "shape": [-1]},
    {"name": "class", "datatype": "INT32", "shape": [-1]},
    {"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]},
]


@dataclass(frozen=True)
class Images:
    """What a request asks.

    Attributes:
        images: Encoded images.
        request_id: Given by the client, or made up where it gave none.
        outputs: Names of the output tensors wanted; None for all.
        binary: Whether output tensors go as raw bytes over REST; over gRPC they always do.
    """

    images: list[bytes]
    request_id: str
    outputs: list[RequestedOutput] | None = None
    binary: bool = False


class Body(ABC):
    """A request as it arrived."""

    @abstractmethod
    def images(self, most: int) -> Images:
        """Read it.

        Args:
            most: Images that it may hold.

        Raises:
            Refusal: if it cannot be used.
        """


class _B64(msgspec.Struct):
    b64: str


class _Instance(msgspec.Struct):
    image: _B64 | str | None = None
    b64: str | None = None


class _V1(msgspec.Struct):
    instances: list[_Instance]


class _V2Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[str | list[str]] | None = None
    parameters: dict[str, Any] = {}


class _V2Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _V2(msgspec.Struct):
    inputs: list[_V2Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_V2Output] | None = None


_v1_decoder = msgspec.json.Decoder(_V1)
_v2_decoder = msgspec.json.Decoder(_V2)


@dataclass(frozen=True)
class V1Body(Body):
    """``{"instances": [{"image": {"b64": "..."}}]}``; an instance may also be ``{"b64": "..."}``."""

    body: bytes

    def images(self, most: int) -> Images:
        """Read it; see ``Body.images``."""
        instances = _decode_json(_v1_decoder, self.body, V1_EXAMPLE).instances
        _check_count(len(instances), most, "instances")
        return Images([_instance_image(item, index) for index, item in enumerate(instances)], uuid.uuid4().hex)


@dataclass(frozen=True)
class V2Body(Body):
    """One BYTES tensor of base64 text in JSON, or of raw bytes behind the JSON.

    Attributes:
        json_length: Bytes of the JSON, where raw bytes follow (header ``Inference-Header-Content-Length``).
    """

    body: bytes
    json_length: str | None = None

    def images(self, most: int) -> Images:
        """Read it; see ``Body.images``."""
        text, raw = self._parts()
        request = _decode_json(_v2_decoder, text, V2_EXAMPLE)
        _check_inputs([(item.name, item.datatype) for item in request.inputs])
        tensor = request.inputs[0]
        images = self._elements(tensor, raw)
        _check_shape(tensor.shape, len(images))
        _check_count(len(images), most, "images")
        return Images(
            images,
            request.id or uuid.uuid4().hex,
            [RequestedOutput(item.name, item.parameters) for item in request.outputs or ()] or None,
            bool((request.parameters or {}).get("binary_data_output", False)),
        )

    def _parts(self) -> tuple[bytes, bytes]:
        if self.json_length is None:
            return self.body, b""
        length = int(self.json_length) if re.fullmatch("[0-9]{1,12}", self.json_length) else len(self.body) + 1
        if length > len(self.body):
            raise Refusal(
                f"the header Inference-Header-Content-Length is '{self.json_length[:20]}'; it must be the number of "
                f"bytes of JSON in the body, which has {len(self.body)}"
            )
        return self.body[:length], self.body[length:]

    def _elements(self, tensor: _V2Input, raw: bytes) -> list[bytes]:
        size = tensor.parameters.get("binary_data_size")
        if tensor.data is not None:
            if raw:
                raise Refusal(f"{len(raw)} bytes follow the JSON, but '{INPUT_NAME}' has its data in the JSON")
            texts = [text for item in tensor.data for text in ([item] if isinstance(item, str) else item)]
            return [_from_base64(text, f"image {index + 1}") for index, text in enumerate(texts)]
        if size is None:
            raise Refusal(f"the input '{INPUT_NAME}' has no data; send {V2_EXAMPLE} with the image as base64")
        if size != len(raw):
            raise Refusal(f"binary_data_size is {str(size)[:20]}, but {len(raw)} bytes follow the JSON")
        return [_raw_or_base64(item) for item in _split_bytes_tensor(raw)]


@dataclass(frozen=True)
class GrpcBody(Body):
    """One BYTES tensor of raw bytes or base64 text, in ``contents`` or ``raw_input_contents``."""

    request: "ModelInferRequest"

    def images(self, most: int) -> Images:
        """Read it; see ``Body.images``."""
        request = self.request
        _check_inputs([(item.name, item.datatype) for item in request.inputs])
        tensor, raw = request.inputs[0], list(request.raw_input_contents)
        if raw:
            if len(raw) != 1 or tensor.contents.bytes_contents:
                raise Refusal("give the images once: in contents.bytes_contents or in one raw_input_contents")
            elements = _split_bytes_tensor(raw[0])
        else:
            elements = list(tensor.contents.bytes_contents)
        _check_shape(list(tensor.shape), len(elements))
        _check_count(len(elements), most, "images")
        return Images(
            [_raw_or_base64(item) for item in elements],
            request.id or uuid.uuid4().hex,
            [RequestedOutput(item.name) for item in request.outputs] or None,
        )


def encode_v1(predictions: list[Prediction]) -> bytes:
    """Give the JSON body of a v1 answer."""
    return msgspec.json.encode({"predictions": predictions})


def encode_v2(images: Images, predictions: list[Prediction]) -> InferResponse:
    """Give a v2 answer: each prediction as JSON text, and its class and probabilities as tensors."""
    first, count = predictions[0], len(predictions)
    texts = [msgspec.json.encode(item).decode() for item in predictions]
    rows = np.array([list(item.probabilities.values()) for item in predictions], np.float32)
    classes = np.array([item.confluence_class for item in predictions], np.int32)
    outputs = {
        "prediction": InferOutput("prediction", [count], "BYTES", np.array(texts, dtype=object)),
        "class": InferOutput("class", [count], "INT32", classes),
        "probabilities": InferOutput("probabilities", list(rows.shape), "FP32", rows),
    }
    wanted = list(outputs) if images.outputs is None else [output.name for output in images.outputs]
    for name in wanted:
        if name not in outputs:
            raise Refusal(f"there is no output '{name[:50]}'; ask for {', '.join(outputs)}")
    return InferResponse(
        response_id=images.request_id,
        model_name=first.model,
        model_version=first.model_version,
        infer_outputs=[outputs[name] for name in dict.fromkeys(wanted)],
        parameters={"digest": first.digest, "data_version": first.data_version},
        use_binary_outputs=images.binary,
        requested_outputs=images.outputs,
    )


def _decode_json(decoder: msgspec.json.Decoder[T], body: bytes, example: str) -> T:
    if not body:
        raise Refusal(f"the body is empty; send {example}", reason="empty")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Refusal(f"the body does not fit: {error}; send {example}") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refusal(f"the body is not JSON ({error}); send {example}") from error


def _check_count(count: int, most: int, what: str) -> None:
    if count == 0:
        raise Refusal(f"the request holds no {what}; send at least one image", reason="empty")
    if count > most:
        raise TooLarge(f"the request holds {count} images, more than {most}; send fewer at once", reason="too_large")


def _check_shape(shape: list[int], count: int) -> None:
    if shape not in ([count], [count, 1]):
        raise Refusal(f"the shape {str(shape)[:60]} does not fit {count} images; it must be [{count}]")


def _check_inputs(described: list[tuple[str, str]]) -> None:
    if len(described) != 1 or described[0][0] != INPUT_NAME:
        names = ", ".join(f"'{name[:50]}'" for name, _ in described[:5]) or "none"
        raise Refusal(f"the inputs are {names}; the model takes one tensor, named '{INPUT_NAME}'")
    if described[0][1] != "BYTES":
        raise Refusal(f"'{INPUT_NAME}' has datatype '{described[0][1][:20]}'; it must be BYTES, an encoded image each")


def _instance_image(instance: _Instance, index: int) -> bytes:
    text = instance.image.b64 if isinstance(instance.image, _B64) else instance.image or instance.b64
    if text is None:
        raise Refusal(f"instance {index + 1} has no image; send {V1_EXAMPLE}")
    return _from_base64(text, f"instance {index + 1}")


def _from_base64(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        pass
    if text.startswith("data:"):
        raise Refusal(f"{where} is a data URL; send only the base64 text behind the comma", reason="not_base64")
    try:
        # Encoders that break lines are common.
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise Refusal(f"{where} is not base64 ({error}); encode the image file's bytes", "not_base64") from error


def _raw_or_base64(element: bytes) -> bytes:
    """Take an image as it is, or decode it where all of it is base64 text, which no image file is."""
    try:
        return base64.b64decode(element, validate=True) or element
    except binascii.Error:
        return element


def _split_bytes_tensor(raw: bytes) -> list[bytes]:
    """Split a BYTES tensor: each element is its length as 4 bytes, little-endian, and then its bytes."""
    elements, offset = [], 0
    while offset < len(raw):
        if offset + 4 > len(raw):
            raise Refusal(f"the BYTES tensor ends within a length, {len(raw) - offset} bytes too long")
        (length,) = struct.unpack_from("<I", raw, offset)
        offset += 4
        if offset + length > len(raw):
            raise Refusal(f"an element of {length} bytes does not fit into the {len(raw) - offset} that follow it")
        elements.append(raw[offset : offset + length])
        offset += length
    return elements
