"""What a request says, in the protocols v1 and v2 over REST, and v2 over gRPC.

Reading a body takes time in proportion to its images, so it is done where the images are decoded: in a
worker thread. A request is therefore handed on as a ``Body``, which is read by ``images()``.
"""

import binascii
import re
import string
import struct
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
import pybase64
from kserve.protocol.infer_type import RequestedOutput

from components.culture import CULTURE_MODEL, Modality
from serving.messages import Base64, InputTensor, Instance, V1Request, V2Request
from serving.refusals import Refusal, TooLarge
from serving.wire import check_json

if TYPE_CHECKING:
    from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest

T = TypeVar("T")

INPUT_NAME = "image"
V1_EXAMPLE = '{"instances": [{"image": {"b64": "..."}}]}'
V2_EXAMPLE = '{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["..."]}]}'
MODALITY_NAME = "modality"


@dataclass(frozen=True)
class Images:
    """What a request asks.

    Attributes:
        images: Encoded images.
        modalities: Of each image; None where the request does not say.
        request_id: Given by the client, or made up where it gave none.
        outputs: Names of the output tensors wanted; None for all.
        binary: Whether output tensors go as raw bytes over REST; over gRPC they always do.
    """

    images: list[bytes]
    modalities: list[Modality | None]
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


_v1_decoder = msgspec.json.Decoder(V1Request)
_v2_decoder = msgspec.json.Decoder(V2Request)


class _Tensor(NamedTuple):
    """An input of the v2 protocol; its elements are text from JSON, or bytes."""

    name: str
    datatype: str
    shape: list[int]
    elements: Sequence[str | bytes]


@dataclass(frozen=True)
class V1Body(Body):
    """``{"instances": [{"image": {"b64": "..."}}]}``; an instance may also be ``{"b64": "..."}``."""

    body: bytes

    def images(self, most: int) -> Images:
        """Read it; see ``Body.images``."""
        instances = _decode_json(_v1_decoder, self.body, V1_EXAMPLE).instances
        _check_count(len(instances), most, "instances")
        images = [_instance_image(item, index) for index, item in enumerate(instances)]
        return Images(images, [_modality(item.modality) for item in instances], uuid.uuid4().hex)


@dataclass(frozen=True)
class V2Body(Body):
    """A BYTES tensor of base64 text in JSON, or of raw bytes behind the JSON.

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
        parameters = request.parameters or {}
        images, modalities = _asked(self._tensors(request.inputs, raw), parameters.get(MODALITY_NAME), most)
        return Images(
            images,
            modalities,
            request.id or uuid.uuid4().hex,
            [RequestedOutput(item.name, item.parameters) for item in request.outputs or ()] or None,
            _flag(parameters, "binary_data_output"),
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

    def _tensors(self, inputs: list[InputTensor], raw: bytes) -> list[_Tensor]:
        """Give each input its data: from the JSON, or in their order from the bytes behind it."""
        sizes = [item.parameters.get("binary_data_size", 0) if item.data is None else 0 for item in inputs]
        if not all(isinstance(size, int) and size >= 0 for size in sizes) or sum(sizes) != len(raw):
            said = ", ".join(str(size)[:20] for size in sizes[:5])
            raise Refusal(f"binary_data_size is {said}, but {len(raw)} bytes follow the JSON")
        ends = list(accumulate(sizes))
        return [
            _Tensor(item.name, item.datatype, item.shape, self._elements(item, raw[end - size : end]))
            for item, size, end in zip(inputs, sizes, ends, strict=True)
        ]

    def _elements(self, item: InputTensor, raw: bytes) -> Sequence[str | bytes]:
        if item.data is not None:
            return [text for each in item.data for text in ([each] if isinstance(each, str) else each)]
        if "binary_data_size" not in item.parameters:
            raise Refusal(f"the input '{item.name[:50]}' has no data; send {V2_EXAMPLE} with the image as base64")
        return _split_bytes_tensor(raw)


@dataclass(frozen=True)
class GrpcBody(Body):
    """A BYTES tensor of raw bytes or base64 text, in ``contents`` or ``raw_input_contents``."""

    request: "ModelInferRequest"

    def images(self, most: int) -> Images:
        """Read it; see ``Body.images``."""
        request = self.request
        _check_inputs([(item.name, item.datatype) for item in request.inputs])
        parameter = request.parameters.get(MODALITY_NAME)
        given = getattr(parameter, str(parameter.WhichOneof("parameter_choice")), "") if parameter else None
        images, modalities = _asked(self._tensors(), given, most)
        return Images(
            images,
            modalities,
            request.id or uuid.uuid4().hex,
            [RequestedOutput(item.name) for item in request.outputs] or None,
        )

    def _tensors(self) -> list[_Tensor]:
        inputs, raw = self.request.inputs, self.request.raw_input_contents
        if not raw:
            elements = [list(item.contents.bytes_contents) for item in inputs]
        elif len(raw) != len(inputs) or any(item.contents.bytes_contents for item in inputs):
            raise Refusal("give the images once: in contents.bytes_contents or in one raw_input_contents an input")
        else:
            elements = [_split_bytes_tensor(item) for item in raw]
        return [
            _Tensor(item.name, item.datatype, list(item.shape), given)
            for item, given in zip(inputs, elements, strict=True)
        ]


def _flag(parameters: dict[str, Any], name: str) -> bool:
    given = parameters.get(name, False)
    if not isinstance(given, bool):
        raise Refusal(f"the parameter {name} is {str(given)[:20]!r}; it must be true or false")
    return given


def input_types(model: str) -> list[dict[str, Any]]:
    """Give the v2 protocol's description of what a model of this name takes."""
    modality = [{"name": MODALITY_NAME, "datatype": "BYTES", "shape": [-1]}] if model == CULTURE_MODEL else []
    return [{"name": INPUT_NAME, "datatype": "BYTES", "shape": [-1]}, *modality]


def _decode_json(decoder: msgspec.json.Decoder[T], body: bytes, example: str) -> T:
    if not body:
        raise Refusal(f"the body is empty; send {example}", reason="empty")
    check_json(body)
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
    """Make sure of the names and datatypes of the inputs."""
    named = [name for name, _ in described]
    if named.count(INPUT_NAME) != 1 or named.count(MODALITY_NAME) != len(named) - 1 or len(named) > 2:
        names = ", ".join(f"'{name[:50]}'" for name in named[:5]) or "none"
        raise Refusal(
            f"the inputs are {names}; the model takes a tensor named '{INPUT_NAME}' and, if need be, '{MODALITY_NAME}'"
        )
    for name, datatype in described:
        if datatype != "BYTES":
            what = "an encoded image each" if name == INPUT_NAME else "a word each"
            raise Refusal(f"'{name}' has datatype '{datatype[:20]}'; it must be BYTES, {what}")


def _asked(tensors: list[_Tensor], parameter: object, most: int) -> tuple[list[bytes], list[Modality | None]]:
    """Read the images, and the modality of each: from a tensor of its own, or one for all as a parameter."""
    for tensor in tensors:
        _check_shape(tensor.shape, len(tensor.elements))
    by_name = {tensor.name: tensor for tensor in tensors}
    elements = by_name[INPUT_NAME].elements
    _check_count(len(elements), most, "images")
    images = [
        _from_base64(item, f"image {index + 1}") if isinstance(item, str) else _raw_or_base64(item)
        for index, item in enumerate(elements)
    ]
    return images, _modalities(by_name.get(MODALITY_NAME), parameter, len(images))


def _modalities(tensor: _Tensor | None, parameter: object, count: int) -> list[Modality | None]:
    if tensor is None:
        return [_modality(parameter)] * count
    if len(tensor.elements) != count:
        raise Refusal(f"'{MODALITY_NAME}' has {len(tensor.elements)} elements for {count} images; give one an image")
    return [_modality(item.decode(errors="replace") if isinstance(item, bytes) else item) for item in tensor.elements]


def _modality(given: object) -> Modality | None:
    if given is None:
        return None
    try:
        return Modality(str(given))
    except ValueError:
        known = ", ".join(Modality)
        raise Refusal(f"the modality '{str(given)[:50]}' is not one of {known}") from None


def _instance_image(instance: Instance, index: int) -> bytes:
    text = instance.image.b64 if isinstance(instance.image, Base64) else instance.image or instance.b64
    if text is None:
        raise Refusal(f"instance {index + 1} has no image; send {V1_EXAMPLE}")
    return _from_base64(text, f"instance {index + 1}")


def _from_base64(text: str, where: str) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:
        pass
    if text.startswith("data:"):
        raise Refusal(f"{where} is a data URL; send only the base64 text behind the comma", reason="not_base64")
    try:
        # Encoders that break lines are common.
        return pybase64.b64decode(text.encode("ascii").translate(None, string.whitespace.encode()), validate=True)
    except ValueError as error:
        raise Refusal(f"{where} is not base64 ({error}); encode the image file's bytes", "not_base64") from error


def _raw_or_base64(element: bytes) -> bytes:
    """Take an image as it is, or decode it where all of it is base64 text, which no image file is."""
    try:
        return pybase64.b64decode(element, validate=True) or element
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
