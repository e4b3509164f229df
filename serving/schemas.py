"""The JSON Schema of what bodies over REST hold, made from their types."""

import re
from typing import Any

import msgspec

from components.culture import CLASS_NAMES, CLASSES, Modality
from components.endpoint.prediction import CellsPrediction, CulturePrediction, Prediction
from serving.messages import (
    Base64,
    ClassifierVersion,
    Culture,
    CultureInstance,
    DetectorVersion,
    InputTensor,
    Instance,
    V2Request,
)

PLACE = "#/components/schemas/{name}"
Schemas = dict[str, dict[str, Any]]


def ref(kind: type) -> dict[str, str]:
    """Point to the schema of a type."""
    return {"$ref": PLACE.format(name=kind.__name__)}


_DIGEST: dict[str, Any] = {"pattern": "^[0-9a-f]{64}$"}
_IMAGE = {"contentEncoding": "base64", "contentMediaType": "image/*"}
_REASON: dict[str, Any] = {"enum": ["unsure", "out_of_distribution", None]}
_MODALITIES = [each.value for each in Modality]
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
    CulturePrediction: {"modality": {"enum": _MODALITIES}},
    Base64: {"b64": _IMAGE},
    Instance: {"b64": _IMAGE, "modality": {"enum": [*_MODALITIES, None]}},
    CultureInstance: {"b64": _IMAGE, "modality": {"enum": _MODALITIES}},
    Culture: {"models": {"additionalProperties": {"anyOf": [ref(ClassifierVersion), ref(DetectorVersion)]}}},
    V2Request: {"inputs": {"minItems": 1, "maxItems": 2}},
    InputTensor: {
        "name": {"enum": ["image", "modality"]},
        "datatype": {"enum": ["BYTES"]},
        "shape": {"minItems": 1, "maxItems": 2},
    },
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
