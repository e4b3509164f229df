"""The endpoint's OpenAPI document: every path, what it takes and what it may answer.

Bodies come from the types in ``serving.messages``, errors from the tree in ``serving.refusals``.
"""

import functools
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.responses import Response

from components.culture import ABNORMAL_MODEL, CULTURE_MODEL, Modality
from components.endpoint.prediction import answer_type
from serving import messages
from serving.refusals import Refusal
from serving.schemas import json_schemas, ref

MODELS = (*(each.model_name for each in Modality), ABNORMAL_MODEL, CULTURE_MODEL)
# What `reason` says, and when.
REASONS = {
    "bad_request": "the request does not fit; the sentence says where",
    "bug": "the endpoint failed; its log tells more",
    "disconnected": "the client left before its body was read, or before the answer",
    "empty": "no body, no image, or an image of 0 bytes",
    "not_base64": "an image is not base64 text",
    "not_ready": "no version of the model can answer yet",
    "overloaded": "as many requests wait as may",
    "stopping": "the endpoint stopped before the answer",
    "switched_off": "a part of the protocol that this endpoint keeps closed",
    "too_large": "more bytes, pixels or images than are taken",
    "too_slow": "the body did not arrive in time",
    "truncated": "an image file is cut short",
    "unknown_model": "no such model",
    "unknown_path": "no such path",
    "unauthorised": "no token, or one that is not known, where the endpoint asks for one",
    "unreadable": "not an image file, or a damaged one",
    "unsupported": "an image file of a kind that is not read",
}
_JSON, _BINARY, _TEXT = "application/json", "application/octet-stream", "text/plain"
_REQUEST_ID = {"$ref": "#/components/headers/X-Request-Id"}
_RETRY_AFTER = {"$ref": "#/components/headers/Retry-After"}
_JSON_LENGTH = "Inference-Header-Content-Length"
_LENGTH = {
    "description": "Bytes of JSON at the body's beginning; raw bytes of tensors follow. Without it, all is JSON.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,12}$"},
}
_ID = {"description": "The client's own, or made up; the endpoint's log has it too.", "schema": {"type": "string"}}
_WAIT = {"description": "Seconds after which to try again.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
_HEADERS = {"X-Request-Id": _ID, "Retry-After": _WAIT, _JSON_LENGTH: _LENGTH}
_PARAMETERS = {
    "X-Request-Id": {"name": "X-Request-Id", "in": "header", **_ID},
    _JSON_LENGTH: {"name": _JSON_LENGTH, "in": "header", **_LENGTH},
    "model_name": {"name": "model_name", "in": "path", "required": True, "schema": {"enum": list(MODELS)}},
}
_BAD_PATH = 405
_ABOUT = "health and discovery"
EXAMPLE_IMAGE = "iVBORw0KGgo="
_EXAMPLE_V1 = {"instances": [{"image": {"b64": EXAMPLE_IMAGE}}]}
_EXAMPLE_V2 = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [EXAMPLE_IMAGE]}]}

DESCRIPTION = """The KServe protocols v1 and v2 over REST; the same answers are given over gRPC, in v2.

Any path may also answer 400 where a request is no HTTP/1.1, 405 where it does not take a method (`Allow` tells
which it takes), and 408 or 431 where headers are too slow or too large; each as an `Error`, like all refusals."""

Json = dict[str, Any]


@functools.cache
def document() -> Json:
    """Give the document; it says the same whatever is served."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mscflow endpoint",
            "version": version("mscflow"),
            "summary": "Confluence and abnormal cells on images of mesenchymal stem-cell cultures.",
            "description": DESCRIPTION,
        },
        "paths": {**_about(), **_discovery(), **_inference()},
        "security": [{}, {"bearer": []}],
        "components": {
            "schemas": _schemas(),
            "headers": _HEADERS,
            "parameters": _PARAMETERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "Where the endpoint asks for a token."}
            },
        },
    }


async def answer() -> Response:
    """Answer with the document."""
    return Response(msgspec.json.encode(document()), media_type=_JSON)


def _about() -> Json:
    def probe(summary: str, kind: type, *errors: int) -> Json:
        # Probes bring no token.
        return {"get": _operation(_ABOUT, summary, _content(ref(kind)), errors) | {"security": []}}

    figures = _content({"type": "string"}, _TEXT)
    return {
        "/": probe("Whether the process runs", messages.Alive),
        "/v2/health/live": probe("Whether the process runs", messages.Live),
        "/v2/health/ready": probe("Whether the endpoint can answer; if not, the error says why", messages.Ready, 503),
        "/metrics": {"get": _operation(_ABOUT, "Figures for Prometheus", figures, [401])},
        "/openapi.json": {"get": _operation(_ABOUT, "This document", _content({"type": "object"}), [401])},
    }


def _discovery() -> Json:
    def get(summary: str, kind: type) -> Json:
        return {"get": _operation(_ABOUT, summary, _content(ref(kind)), [401])}

    def of_model(summary: str, schema: Json, *errors: int) -> Json:
        operation = _operation(_ABOUT, summary, _content(schema), [401, *errors])
        return {"get": operation, "parameters": [{"$ref": "#/components/parameters/model_name"}]}

    versions = {"anyOf": [ref(messages.Classifier), ref(messages.Detector), ref(messages.Culture)]}

    return {
        "/v2": get("Which server this is", messages.Server),
        "/v1/models": get("Names of the models", messages.Models),
        "/v2/models": get("Names of the models", messages.Models),
        "/v1/models/{model_name}": of_model("Which version of a model answers", versions, 404, 503),
        "/v2/models/{model_name}": of_model("Tensors that a model takes and gives", ref(messages.ModelMetadata), 404),
        "/v2/models/{model_name}/ready": of_model("Whether a model can answer", ref(messages.ModelReady), 404, 503),
    }


def _inference() -> Json:
    paths: Json = {}
    for model in MODELS:
        paths[f"/v1/models/{model}:predict"] = {"post": _predict(model)}
        paths[f"/v2/models/{model}/infer"] = {"post": _infer(model)}
    return paths


def _predict(model: str) -> Json:
    predictions = {"type": "array", "items": ref(answer_type(model)), "minItems": 1}
    answer = {"type": "object", "properties": {"predictions": predictions}, "required": ["predictions"]}
    instance = ref(messages.CultureInstance if model == CULTURE_MODEL else messages.Instance)
    instances = {"type": "array", "items": instance, "minItems": 1}
    request = {"type": "object", "properties": {"instances": instances}, "required": ["instances"]}
    body = _content(request, example=_for(model, _EXAMPLE_V1))
    return _inference_operation(f"Ask {model}, in the v1 protocol", model, body, _content(answer))


def _infer(model: str) -> Json:
    body = _content(ref(messages.V2Request), example=_for(model, _EXAMPLE_V2)) | {_BINARY: {}}
    answer = _content(ref(messages.V2Answer)) | {_BINARY: {}}
    operation = _inference_operation(f"Ask {model}, in the v2 protocol", model, body, answer)
    operation["parameters"].append({"$ref": f"#/components/parameters/{_JSON_LENGTH}"})
    operation["responses"]["200"]["headers"][_JSON_LENGTH] = {"$ref": f"#/components/headers/{_JSON_LENGTH}"}
    return operation


def _for(model: str, example: Json) -> Json:
    """Give an example's request with the modality, where the model asks for it."""
    if model != CULTURE_MODEL:
        return example
    modality = {"modality": Modality.SINGLE_STACK.value}
    if "inputs" in example:
        return example | {"parameters": modality}
    return {"instances": [each | modality for each in example["instances"]]}


def _inference_operation(summary: str, model: str, body: Json, answer: Json) -> Json:
    operation = _operation(model, summary, answer, sorted(set(_refusals()) - {_BAD_PATH}))
    operation["parameters"] = [{"$ref": "#/components/parameters/X-Request-Id"}]
    operation["requestBody"] = {"required": True, "content": body}
    operation["responses"]["200"]["headers"] = {"X-Request-Id": _REQUEST_ID}
    return operation


def _operation(tag: str, summary: str, content: Json, errors: Iterable[int] = ()) -> Json:
    responses: Json = {"200": {"description": "The answer.", "content": content}}
    responses |= {str(status): _error(status) for status in errors if status in _refusals()}
    return {"tags": [tag], "summary": summary, "responses": responses}


def _error(status: int) -> Json:
    kinds = _refusals()[status]
    headers = {"X-Request-Id": _REQUEST_ID}
    if any(kind.retry_after for kind in kinds):
        headers["Retry-After"] = _RETRY_AFTER
    text = " Or: ".join((kind.__doc__ or "").split("\n\n", 1)[0] for kind in kinds)
    text = text if status != Refusal.status else "What was sent cannot be used; the sentence says how to mend it."
    return {"description": text, "headers": headers, "content": _content(ref(messages.Error))}


def _refusals() -> dict[int, list[type[Refusal]]]:
    """Give all that the endpoint may refuse with, by HTTP status."""

    def tree(kind: type[Refusal]) -> Iterator[type[Refusal]]:
        yield kind
        for each in kind.__subclasses__():
            yield from tree(each)

    found: dict[int, list[type[Refusal]]] = {}
    for kind in tree(Refusal):
        found.setdefault(kind.status, []).append(kind)
    return found


def _content(schema: Json, media_type: str = _JSON, example: Json | None = None) -> Json:
    return {media_type: {"schema": schema} | ({"example": example} if example else {})}


def _schemas() -> Json:
    found = json_schemas(
        messages.Error,
        *(messages.Alive, messages.Live, messages.Ready, messages.ModelReady, messages.Server, messages.Models),
        *(
            messages.Classifier,
            messages.Detector,
            messages.Culture,
            messages.ClassifierVersion,
            messages.DetectorVersion,
        ),
        *(messages.ModelMetadata, messages.Instance, messages.CultureInstance),
        *(messages.V2Request, messages.V2Answer),
        *(answer_type(model) for model in MODELS),
    )
    reason = found["Error"]["properties"]["reason"]
    reason["enum"] = sorted(REASONS)
    reason["description"] = "\n".join(f"- {name}: {text}" for name, text in sorted(REASONS.items()))
    return found
