"""KServe's own clients, for every model and for the culture, in every form that they send a request in."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.fuzz.laboratory import MODELS, Laboratory, laboratory
from tests.serving.conftest import b64

MODALITIES = ("single_stack", "single_stack")
OUTPUTS = {
    "confluence-single-stack": ["prediction", "class", "probabilities"],
    "confluence-multi-stack": ["prediction", "class", "probabilities"],
    "abnormal-cells": ["prediction", "count"],
    "culture": ["prediction", "class", "probabilities", "count"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """An endpoint with all models."""
    with laboratory(tmp_path_factory.mktemp("laboratory")) as started:
        yield started


def over_rest(protocol: str, ask: Callable[[InferenceRESTClient], Awaitable[Any]]) -> Any:
    async def asked() -> Any:
        async with InferenceRESTClient(RESTConfig(protocol=protocol, timeout=60)) as client:
            return await ask(client)

    return asyncio.run(asked())


def over_grpc(place: Laboratory, ask: Callable[[InferenceGRPCClient], Awaitable[Any]]) -> Any:
    async def asked() -> Any:
        async with InferenceGRPCClient(place.grpc, timeout=60) as client:
            return await ask(client)

    return asyncio.run(asked())


def v1_body(model: str, images: list[bytes]) -> dict[str, Any]:
    extra = {"modality": MODALITIES[0]} if model == "culture" else {}
    return {"instances": [{"image": {"b64": b64(image)}} | extra for image in images]}


def predictions_of(response: InferResponse) -> list[dict[str, Any]]:
    return [json.loads(text) for text in response.outputs[0].as_numpy()]


def as_text(name: str, elements: list[Any]) -> InferInput:
    texts = [b64(each) if isinstance(each, bytes) else each for each in elements]
    return InferInput(name, [len(elements)], "BYTES", texts)


def as_bytes(name: str, elements: list[Any]) -> InferInput:
    return InferInput(
        name, [len(elements)], "BYTES", [each.encode() if isinstance(each, str) else each for each in elements]
    )


def as_raw_bytes(name: str, elements: list[Any]) -> InferInput:
    tensor = InferInput(name, [len(elements)], "BYTES")
    tensor.set_data_from_numpy(np.array(elements, dtype=object), binary_data=True)
    return tensor


def request(model: str, images: list[bytes], make: Callable[..., InferInput], **more: Any) -> InferRequest:
    tensors = [make("image", images)]
    if model == "culture":
        tensors.append(make("modality", list(MODALITIES)))
    return InferRequest(model, tensors, **more)


@pytest.mark.parametrize("model", MODELS)
def test_all_ways_to_ask_give_the_same_predictions(place: Laboratory, png: Callable[..., bytes], model: str) -> None:
    images = [png(1), png(2, size=(50, 30), form="JPEG")]
    body = v1_body(model, images)
    expected = over_rest("v1", lambda client: client.infer(place.url, body, model_name=model))["predictions"]
    assert len(expected) == 2
    for make in (as_text, as_raw_bytes):
        asked = request(model, images, make)
        found = over_rest("v2", lambda client, asked=asked: client.infer(place.url, asked, model_name=model))
        assert predictions_of(found) == expected
        assert [output.name for output in found.outputs] == OUTPUTS[model]
    for make in (as_bytes, as_raw_bytes):
        found = over_grpc(place, lambda client, make=make: client.infer(request(model, images, make, request_id="7")))
        assert predictions_of(found) == expected
        assert (found.id, found.model_name) == ("7", model)
        assert [output.name for output in found.outputs] == OUTPUTS[model]


@pytest.mark.parametrize("model", MODELS)
def test_answers_as_raw_bytes_are_the_same(place: Laboratory, png: Callable[..., bytes], model: str) -> None:
    images = [png(1), png(2)]
    plain, raw = (
        over_rest(
            "v2",
            lambda client, wanted=wanted: client.infer(
                place.url, request(model, images, as_raw_bytes, parameters=wanted), model_name=model
            ),
        )
        for wanted in ({}, {"binary_data_output": True})
    )
    for one, other in zip(plain.outputs, raw.outputs, strict=True):
        assert (one.name, one.datatype, one.shape) == (other.name, other.datatype, other.shape)
        np.testing.assert_array_equal(one.as_numpy(), other.as_numpy())


@pytest.mark.parametrize("model", MODELS)
def test_outputs_can_be_chosen(place: Laboratory, png: Callable[..., bytes], model: str) -> None:
    last = OUTPUTS[model][-1]
    asked = request(model, [png(), png()], as_raw_bytes, request_outputs=[RequestedOutput(last)])
    by_rest = over_rest("v2", lambda client: client.infer(place.url, asked, model_name=model))
    asked = request(model, [png(), png()], as_raw_bytes, request_outputs=[RequestedOutput(last)])
    by_grpc = over_grpc(place, lambda client: client.infer(asked))
    for found in (by_rest, by_grpc):
        assert [output.name for output in found.outputs] == [last]
    np.testing.assert_array_equal(by_rest.outputs[0].as_numpy(), by_grpc.outputs[0].as_numpy())


def test_health_is_told_for_the_server_and_for_every_model(place: Laboratory) -> None:
    for protocol in ("v1", "v2"):
        assert over_rest(protocol, lambda client: client.is_server_live(place.url)) is True
        for model in MODELS:
            assert over_rest(protocol, lambda client, model=model: client.is_model_ready(place.url, model)) is True
    assert over_rest("v2", lambda client: client.is_server_ready(place.url)) is True
    assert over_grpc(place, lambda client: client.is_server_live()) is True
    assert over_grpc(place, lambda client: client.is_server_ready()) is True
    for model in MODELS:
        assert over_grpc(place, lambda client, model=model: client.is_model_ready(model)) is True
    assert over_rest("v2", lambda client: client.is_model_ready(place.url, "other")) is False


def test_the_clients_tell_why_a_request_was_refused(place: Laboratory) -> None:
    sentence = "no JPEG, PNG, BMP or TIFF image"
    for model in MODELS:
        for protocol in ("v1", "v2"):
            body = v1_body(model, [b"nothing"] * 2) if protocol == "v1" else request(model, [b"nothing"] * 2, as_text)
            with pytest.raises(httpx.HTTPStatusError, match=f"image 1 of 2: .*{sentence}.*400 Bad Request"):
                over_rest(protocol, lambda client, body=body: client.infer(place.url, body, model_name=model))  # noqa: B023
        with pytest.raises(grpc.RpcError, match=sentence) as caught:
            asked = request(model, [b"nothing"] * 2, as_bytes)
            over_grpc(place, lambda client, asked=asked: client.infer(asked))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_nothing_is_explained(place: Laboratory) -> None:
    with pytest.raises(httpx.HTTPStatusError, match=r"POST is not for .*:explain"):
        over_rest("v1", lambda client: client.explain(place.url, "culture", {}))
