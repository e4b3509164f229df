"""All models together, asked as clients ask: over REST v1, v2 and gRPC."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kserve import InferenceGRPCClient, InferInput, InferRequest

from components.endpoint.files import WantedModel
from components.endpoint.prediction import CulturePrediction
from tests.serving.conftest import CELLS, MULTI, SINGLE, b64


def ask(endpoint: Any, *instances: dict[str, Any]) -> Any:
    return endpoint.http.post("/v1/models/culture:predict", json={"instances": instances})


def test_one_image_gets_its_confluence_and_its_cells(laboratory: Any, png: Callable[..., bytes]) -> None:
    reply = ask(laboratory, {"image": {"b64": b64(png(size=(40, 80)))}, "modality": "single_stack"})
    (answer,) = msgspec.json.decode(reply.content, type=dict[str, list[CulturePrediction]])["predictions"]
    assert (answer.modality, answer.confluence.confluence_class) == ("single_stack", 2)
    assert (answer.confluence.model, answer.confluence.model_version) == (SINGLE, "3")
    assert answer.abnormal_cells is not None
    assert (answer.abnormal_cells.count, answer.abnormal_cells.model_version) == (1, "7")
    assert answer.abnormal_cells.cells[0].box == (20.0, 5.0, 40.0, 30.0)


def test_images_of_both_modalities_are_answered_each_by_its_own_models(
    laboratory: Any, png: Callable[..., bytes]
) -> None:
    kinds = ["multi_stack", "single_stack", "multi_stack"]
    reply = ask(laboratory, *({"b64": b64(png(seed)), "modality": kind} for seed, kind in enumerate(kinds)))
    answers = msgspec.json.decode(reply.content, type=dict[str, list[CulturePrediction]])["predictions"]
    assert [each.modality for each in answers] == kinds
    assert [each.confluence.model for each in answers] == [MULTI, SINGLE, MULTI]
    assert [each.confluence.confluence_class for each in answers] == [4, 2, 4]
    assert [each.abnormal_cells is None for each in answers] == [True, False, True]


def v2_bodies(image: bytes) -> list[dict[str, Any]]:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64(image)]}
    modality = {"name": "modality", "datatype": "BYTES", "shape": [1], "data": ["single_stack"]}
    return [{"inputs": [tensor], "parameters": {"modality": "single_stack"}}, {"inputs": [modality, tensor]}]


def test_v2_takes_the_modality_as_a_parameter_or_as_a_tensor(laboratory: Any, png: Callable[..., bytes]) -> None:
    for body in v2_bodies(png()):
        reply = laboratory.http.post("/v2/models/culture/infer", json=body)
        assert reply.status_code == 200, reply.text
        outputs = {output["name"]: output["data"] for output in reply.json()["outputs"]}
        assert (outputs["class"], outputs["count"], len(outputs["probabilities"])) == ([2], [1], 4)
        assert json.loads(outputs["prediction"][0])["abnormal_cells"]["count"] == 1
        assert reply.json()["model_version"] == f"{SINGLE}=3,{MULTI}=5,{CELLS}=7"


def test_grpc_gives_the_same_answer_as_v1(laboratory: Any, png: Callable[..., bytes]) -> None:
    async def infer(parameters: dict[str, Any], *more: InferInput) -> Any:
        client = InferenceGRPCClient(laboratory.grpc)
        request = InferRequest("culture", [InferInput("image", [1], "BYTES", [png()]), *more], parameters=parameters)
        try:
            return await client.infer(request)
        finally:
            await client.close()

    expected = ask(laboratory, {"b64": b64(png()), "modality": "multi_stack"}).json()["predictions"][0]
    tensor = InferInput("modality", [1], "BYTES", [b"multi_stack"])
    for response in (asyncio.run(infer({"modality": "multi_stack"})), asyncio.run(infer({}, tensor))):
        outputs = {output.name: output.as_numpy() for output in response.outputs}
        assert json.loads(outputs["prediction"][0]) == expected
        assert outputs["count"].tolist() == [-1], "nobody looked for cells in a multi-stack image"


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        ({}, "culture must know how the vessel is built; give the modality: single_stack, multi_stack"),
        ({"modality": "two_stack"}, "the modality 'two_stack' is not one of single_stack, multi_stack"),
        ({"modality": ""}, "the modality '' is not one of"),
        ({"modality": 4}, "got `int`"),
    ],
)
def test_a_modality_that_is_missing_or_wrong_is_a_bad_request(
    laboratory: Any, png: Callable[..., bytes], instance: dict[str, Any], message: str
) -> None:
    reply = ask(laboratory, {"b64": b64(png()), **instance})
    assert reply.status_code == 400
    assert message in reply.json()["error"]


def test_a_model_refuses_images_of_another_modality(laboratory: Any, png: Callable[..., bytes]) -> None:
    for model, other in ((SINGLE, "multi_stack"), (MULTI, "single_stack"), (CELLS, "multi_stack")):
        body = {"instances": [{"b64": b64(png()), "modality": other}]}
        reply = laboratory.http.post(f"/v1/models/{model}:predict", json=body)
        assert reply.status_code == 400
        assert f"not for {other}" in reply.json()["error"]


def test_the_detector_answers_by_itself_too(laboratory: Any, png: Callable[..., bytes]) -> None:
    (answer,) = laboratory.predict(png(), model=CELLS).json()["predictions"]
    assert (answer["count"], answer["model"], answer["abstain"]) == (1, CELLS, False)
    body = {"inputs": v2_bodies(png())[0]["inputs"]}
    outputs = laboratory.http.post(f"/v2/models/{CELLS}/infer", json=body).json()["outputs"]
    assert [(output["name"], output["datatype"]) for output in outputs] == [("prediction", "BYTES"), ("count", "INT32")]


def test_the_culture_is_listed_and_described(laboratory: Any) -> None:
    assert sorted(laboratory.http.get("/v1/models").json()["models"]) == [CELLS, MULTI, SINGLE, "culture"]
    described = laboratory.http.get("/v1/models/culture").json()
    assert described["ready"] is True
    assert {name: each["version"] for name, each in described["models"].items()} == {
        SINGLE: "3",
        MULTI: "5",
        CELLS: "7",
    }
    metadata = laboratory.http.get("/v2/models/culture").json()
    assert [each["name"] for each in metadata["inputs"]] == ["image", "modality"]
    assert [output["name"] for output in metadata["outputs"]] == ["prediction", "class", "probabilities", "count"]
    assert laboratory.http.get("/v2/models/culture/ready").json()["ready"] is True


def test_without_a_detector_only_the_confluence_is_told(
    tmp_path: Path, make_bundle: Callable[..., str], serve: Callable[..., Any], png: Callable[..., bytes]
) -> None:
    with serve(tmp_path) as endpoint:
        assert endpoint.http.get("/v1/models").json()["models"] == []
        assert endpoint.http.get("/v1/models/culture").status_code == 404
        endpoint.deploy(confluence_single_stack=WantedModel(str(tmp_path / "one"), "1", make_bundle(tmp_path / "one")))
        reply = ask(endpoint, {"b64": b64(png()), "modality": "single_stack"})
        assert reply.json()["predictions"][0]["abnormal_cells"] is None
        refused = ask(endpoint, {"b64": b64(png()), "modality": "multi_stack"})
        assert refused.status_code == 404
        assert "no model for multi_stack images is served" in refused.json()["error"]
