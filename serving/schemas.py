"""What the endpoint's REST bodies hold, as types, and the JSON Schema of each."""

import re
from typing import Any, Literal

import msgspec

from components.culture import CLASS_NAMES, CLASSES, Modality
from components.endpoint.prediction import CellsPrediction, CulturePrediction, Prediction

PLACE = "#/components/schemas/{name}"
Schemas = dict[str, dict[str, Any]]
Parameters = dict[str, bool | int | float | str]


class Alive(msgspec.Struct):
    """The process runs."""

    status: Literal["alive"]


class Live(msgspec.Struct):
    """The process runs."""

    live: Literal[True]


class Ready(msgspec.Struct):
    """The endpoint can answer."""

    ready: Literal[True]


class ModelReady(msgspec.Struct):
    """A model can answer."""

    name: str
    ready: Literal[True]


class Server(msgspec.Struct):
    """Which server this is."""

    name: str
    version: str
    extensions: list[str]


class Models(msgspec.Struct):
    """Names of the models that are served, ready or not."""

    models: list[str]


class Version(msgspec.Struct):
    """A version of a model that answers.

    Attributes:
        digest: The model's digest, which fixes every byte of it.
        data_version: Data version that the model was trained on.
        modality: How the vessels are built whose images it was made for.
    """

    version: str
    digest: str
    data_version: str
    modality: str


class ClassifierVersion(Version):
    """A version of a model that tells the confluence.

    Attributes:
        classes: Names of its classes.
    """

    classes: list[str]


class DetectorVersion(Version):
    """A version of a model that finds abnormal cells.

    Attributes:
        positive: Labels of the cells that it finds.
        min_score: Score from which on a cell is given out.
    """

    positive: list[str]
    min_score: float


class Classifier(ClassifierVersion):
    """A model that tells the confluence, and the version of it that answers."""

    name: str
    ready: Literal[True]


class Detector(DetectorVersion):
    """A model that finds abnormal cells, and the version of it that answers."""

    name: str
    ready: Literal[True]


class Culture(msgspec.Struct):
    """All models together, and the versions of them that answer.

    Attributes:
        version: Versions of its models, in one text.
        models: Version of each of its models, by name.
    """

    name: str
    ready: Literal[True]
    version: str
    models: dict[str, Any]


class TensorType(msgspec.Struct):
    """A tensor that a model takes or gives; -1 stands for any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """The v2 protocol's description of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorType]
    outputs: list[TensorType]


class Base64(msgspec.Struct):
    """An image file.

    Attributes:
        b64: Its bytes as base64 text.
    """

    b64: str


class Instance(msgspec.Struct):
    """An image of a v1 request; either ``image`` or ``b64`` is there.

    Attributes:
        image: The image file; where it is a text, its bytes as base64.
        b64: Bytes of the image file as base64 text.
        modality: How the vessel is built; the model culture must know.
    """

    image: Base64 | str | None = None
    b64: str | None = None
    modality: Literal["single_stack", "multi_stack"] | None = None


class CultureInstance(Instance, kw_only=True):
    """An image of a v1 request for the model culture; either ``image`` or ``b64`` is there."""

    modality: Literal["single_stack", "multi_stack"]


class ImageTensor(msgspec.Struct):
    """An input of a v2 request.

    Attributes:
        shape: Number of elements N: [N] or [N, 1].
        data: The elements: base64 text of image files, or modalities.
        parameters: binary_data_size is the number of bytes behind the JSON, where there are no data in it.
    """

    name: str
    shape: list[int]
    datatype: Literal["BYTES"]
    data: list[str | list[str]] | None = None
    parameters: dict[str, Any] = {}


class WantedOutput(msgspec.Struct):
    """An output tensor that the answer is to hold.

    Attributes:
        parameters: binary_data asks for raw bytes behind the JSON.
    """

    name: str
    parameters: dict[str, Any] = {}


class V2Request(msgspec.Struct):
    """Images to answer for, in the v2 protocol.

    Attributes:
        id: Comes back with the answer; made up where there is none.
        inputs: The tensor image, and for the model culture one named modality, unless parameters name it.
        parameters: binary_data_output asks for raw bytes behind the JSON; modality tells how the vessels are built.
        outputs: Tensors that are wanted; all, where none is named.
    """

    inputs: list[ImageTensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[WantedOutput] | None = None


class OutputTensor(msgspec.Struct):
    """An output of a v2 answer."""

    name: str
    shape: list[int]
    datatype: Literal["BYTES", "INT32", "FP32"]
    data: list[Any]
    parameters: Parameters = {}


class V2Answer(msgspec.Struct):
    """Answers as tensors: ``prediction`` holds each as JSON text, the others some of its parts as numbers."""

    id: str
    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    parameters: Parameters = {}


class Error(msgspec.Struct):
    """Why there is no answer.

    Attributes:
        error: A sentence that names what is wrong, then what to do.
        reason: A word for programs.
    """

    error: str
    reason: str


def ref(kind: type) -> dict[str, str]:
    """Point to the schema of a type."""
    return {"$ref": PLACE.format(name=kind.__name__)}


_DIGEST: dict[str, Any] = {"pattern": "^[0-9a-f]{64}$"}
_IMAGE = {"contentEncoding": "base64", "contentMediaType": "image/*"}
_REASON: dict[str, Any] = {"enum": ["unsure", "out_of_distribution", None]}
_MODALITY = {"enum": [each.value for each in Modality]}
_OF_EVERY_MODEL: dict[str, dict[str, Any]] = {"data_version": _DIGEST, "digest": _DIGEST, "reason": _REASON}
# What the types leave open.
_NARROWER: dict[type, dict[str, dict[str, Any]]] = {
    Prediction: {
        **_OF_EVERY_MODEL,
        "class": {"enum": list(map(int, CLASSES))},
        "name": {"enum": list(CLASS_NAMES)},
        "decision": {"enum": [*CLASS_NAMES, None]},
        "confidence": {"minimum": 0, "maximum": 1},
        "probabilities": {"required": list(CLASS_NAMES), "additionalProperties": {"type": "number", "minimum": 0}},
    },
    CellsPrediction: {**_OF_EVERY_MODEL, "count": {"minimum": 0}},
    CulturePrediction: {"modality": _MODALITY},
    Base64: {"b64": _IMAGE},
    Instance: {"b64": _IMAGE},
    CultureInstance: {"b64": _IMAGE},
    Culture: {"models": {"additionalProperties": {"anyOf": [ref(ClassifierVersion), ref(DetectorVersion)]}}},
    V2Request: {"inputs": {"minItems": 1, "maxItems": 2}},
    ImageTensor: {"name": {"enum": ["image", "modality"]}, "shape": {"minItems": 1, "maxItems": 2}},
}


def json_schemas(*types: type[Any]) -> Schemas:
    """Give the JSON Schema of each type, and of those within it, by name.

    Descriptions are those of the types' docstrings.
    """
    _, schemas = msgspec.json.schema_components(types, ref_template=PLACE)
    for kind in _structs(types):
        schema = schemas[kind.__name__]
        schema["description"] = _summary(kind)
        for name, text in _attributes(kind).items():
            schema["properties"][name]["description"] = text
        for name, more in _NARROWER.get(kind, {}).items():
            schema["properties"][name] |= more
        if issubclass(kind, Instance):
            schema["anyOf"] = [{"required": ["image"]}, {"required": ["b64"]}]
    return dict(schemas)


def _structs(types: tuple[type[Any], ...]) -> set[type[Any]]:
    """Give the structs among types and all within them."""
    found: set[type[Any]] = set()
    waiting: list[Any] = list(types)
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in found:
            found.add(kind)
            waiting += [field.type for field in msgspec.structs.fields(kind)]
        waiting += getattr(kind, "__args__", ())
    return found


def _summary(kind: type) -> str:
    # A clause that sends readers of the code to a private type says nothing to others.
    return re.sub(r"; _[A-Z]\w+ .*\.$", ".", _prose((kind.__doc__ or "").split("\n\n", 1)[0]))


def _attributes(kind: type) -> dict[str, str]:
    """Read what a struct's docstring, and those of its bases, say of its attributes, by their names in JSON."""
    said: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        _, _, section = (each.__doc__ or "").partition("Attributes:\n")
        for name, text in re.findall(r"^ {8}(\w+): (.*(?:\n {9,}.*)*)", section, re.MULTILINE):
            said[name] = _prose(text)
    names = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    return {names[name]: text for name, text in said.items() if name in names}


def _prose(text: str) -> str:
    """Turn a part of a docstring into a text for readers who do not know Python."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()).replace("``", ""))
