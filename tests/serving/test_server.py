"""The endpoint as its consumers meet it: a real process, over every protocol, with KServe's own clients."""

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.grpc.grpc_predict_v2_pb2 import RepositoryModelUnloadRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

MODEL = "confluence-single-stack"
PREDICT = f"/v1/models/{MODEL}:predict"
INFER = f"/v2/models/{MODEL}/infer"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def tensor(*data: Any, **changes: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": list(data)} | changes


def by_v2_rest(endpoint: Any, image: bytes) -> InferResponse:
    async def ask() -> InferResponse:
        client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
        given = InferInput("image", [1], "BYTES", [b64(image)])
        found = await client.infer(endpoint.url, InferRequest(MODEL, [given]), model_name=MODEL)
        await client.close()
        return found

    return asyncio.run(ask())


def by_grpc(endpoint: Any, image: bytes, raw: bool) -> InferResponse:
    async def ask() -> InferResponse:
        client = InferenceGRPCClient(endpoint.grpc, timeout=60)
        given = InferInput("image", [1], "BYTES", None if raw else [image])
        if raw:
            given.set_data_from_numpy(np.array([image], dtype=object))
        found = await client.infer(InferRequest(MODEL, [given], request_id="7"))
        await client.close()
        return found

    return asyncio.run(ask())


def test_v1_v2_and_grpc_give_the_same_answer(endpoint: Any, png: Callable[..., bytes]) -> None:
    image = png(1)
    (answer,) = endpoint.predict(image).json()["predictions"]
    assert (answer["class"], answer["name"], answer["decision"]) == (2, "media change", "media change")
    assert (answer["model_version"], answer["digest"]) == ("1", endpoint.first.digest)
    others = (by_v2_rest(endpoint, image), by_grpc(endpoint, image, raw=False), by_grpc(endpoint, image, raw=True))
    for found in others:
        outputs = {output.name: output.as_numpy() for output in found.outputs}
        text = outputs["prediction"][0]
        assert json.loads(text) == answer
        assert outputs["class"].tolist() == [2]
        np.testing.assert_allclose(outputs["probabilities"][0], list(answer["probabilities"].values()), rtol=1e-6)
    # KServe's REST client drops the version; each prediction names it, too.
    assert [found.model_version for found in others[1:]] == ["1", "1"]
    assert others[1].id == "7"


def test_binary_tensors_over_rest_are_taken_and_given(endpoint: Any, png: Callable[..., bytes]) -> None:
    given = InferInput("image", [1], "BYTES")
    given.set_data_from_numpy(np.array([png(1)], dtype=object))
    body, length = InferRequest(MODEL, [given], parameters={"binary_data_output": True}).to_rest()
    headers = {"Inference-Header-Content-Length": str(length), "Content-Type": "application/octet-stream"}
    response = endpoint.http.post(INFER, content=body, headers=headers)
    found = InferResponse.from_bytes(response.content, int(response.headers["inference-header-content-length"]))
    assert json.loads(found.outputs[0].data[0]) == endpoint.predict(png(1)).json()["predictions"][0]


def test_a_v2_request_without_an_id_gets_one(endpoint: Any, png: Callable[..., bytes]) -> None:
    answer = endpoint.http.post(INFER, json={"inputs": [tensor(b64(png()))]}).json()
    assert answer["id"]
    assert answer["parameters"]["digest"] == endpoint.first.digest


def test_several_images_of_different_kinds_are_answered_in_order(endpoint: Any, png: Callable[..., bytes]) -> None:
    images = [png(1), png(2, size=(300, 20), form="JPEG"), png(3, form="TIFF")]
    together = endpoint.predict(*images).json()["predictions"]
    for one, image in zip(together, images, strict=True):
        alone = endpoint.predict(image).json()["predictions"][0]["probabilities"]
        assert one["probabilities"] == pytest.approx(alone, abs=1e-6)


def test_health_and_discovery(endpoint: Any) -> None:
    get = endpoint.http.get
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True}
    assert get("/v1/models").json() == get("/v2/models").json() == {"models": [MODEL, "culture"]}
    described = get(f"/v1/models/{MODEL}").json()
    assert described["version"] == "1"
    assert described["digest"] == endpoint.first.digest
    assert get(f"/v2/models/{MODEL}").json()["versions"] == ["1"]
    assert get(f"/v2/models/{MODEL}/ready").json() == {"name": MODEL, "ready": True}
    assert b"request_predict_seconds" in get("/metrics").content
    assert get("/v2").json()["name"] == "mscflow"


def test_health_over_grpc(endpoint: Any) -> None:
    async def ask() -> tuple[bool, bool, bool]:
        client = InferenceGRPCClient(endpoint.grpc)
        found = (await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready(MODEL))
        await client.close()
        return found

    assert asyncio.run(ask()) == (True, True, True)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


HEADER = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
BOMB = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", HEADER) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is empty; send"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[" * 100_000, 400, "the body"),
        (b'"text"', 400, "Expected `object`"),
        ({}, 400, "missing required field `instances`"),
        ({"instances": []}, 400, "send at least one image"),
        ({"instances": [{"b64": ""}]}, 400, "has 0 bytes"),
        ({"instances": [{"b64": "%"}]}, 400, "not base64"),
        ({"instances": [{"b64": b64(b"GIF89a no image")}]}, 400, "no JPEG, PNG"),
        ({"instances": [{"b64": b64(BOMB)}]}, 413, "60000 x 60000 pixels"),
        ({"instances": [{"b64": b64(b"x" * 300_001)}]}, 413, "300001 bytes are more than"),
        ({"instances": [{"b64": "eHg="}] * 4}, 413, "4 images, more than 3"),
        ({"instances": [{"b64": b64(b"x" * 400_000)}]}, 413, "the body has more than"),
    ],
)
def test_bad_v1_requests_are_told_what_to_mend(endpoint: Any, body: Any, status: int, message: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = endpoint.http.post(PREDICT, content=content)
    assert response.status_code == status, response.text
    assert message in response.json()["error"]
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "not JSON"),
        ({"inputs": []}, 400, "takes a tensor named 'image'"),
        ({"inputs": [tensor("eHg=", datatype="FP32")]}, 400, "it must be BYTES"),
        ({"inputs": [tensor("eHg=", shape=[3, 224])]}, 400, "does not fit 1 images"),
        ({"inputs": [tensor("eHg=")]}, 400, "no JPEG, PNG"),
        ({"inputs": [tensor("eHg=")], "id": 5}, 400, "Expected `str | null`, got `int`"),
        ({"inputs": [tensor(b64(BOMB))]}, 413, "60000 x 60000 pixels"),
    ],
)
def test_bad_v2_requests_are_told_what_to_mend(endpoint: Any, body: Any, status: int, message: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = endpoint.http.post(INFER, content=content)
    assert response.status_code == status, response.text
    assert message in response.json()["error"]


def test_an_unknown_output_is_refused(endpoint: Any, png: Callable[..., bytes]) -> None:
    body = {"inputs": [tensor(b64(png()))], "outputs": [{"name": "boxes"}]}
    response = endpoint.http.post(INFER, json=body)
    assert (response.status_code, response.json()["error"][:28]) == (400, "there is no output 'boxes'; ")


@pytest.mark.parametrize(
    ("image", "code", "message"),
    [
        (b"no image", grpc.StatusCode.INVALID_ARGUMENT, "no JPEG, PNG"),
        (BOMB, grpc.StatusCode.INVALID_ARGUMENT, "60000 x 60000 pixels"),
        (b"x" * 500_000, grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
    ],
    ids=["no image", "bomb", "too many bytes"],
)
def test_bad_grpc_requests_are_told_what_to_mend(endpoint: Any, image: bytes, code: Any, message: str) -> None:
    with pytest.raises(grpc.RpcError, match=message) as caught:
        by_grpc(endpoint, image, raw=True)
    assert caught.value.code() == code


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/other:predict", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("GET", "/v1/models/other", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("POST", f"/v2/repository/models/{MODEL}/unload", 404),
        ("POST", f"/v2/repository/models/{MODEL}/load", 404),
        ("POST", f"/v1/models/{MODEL}:explain", 405),
        ("GET", PREDICT, 404),
        ("GET", "/docs", 404),
    ],
)
def test_names_and_paths_that_are_not_served_are_refused(endpoint: Any, method: str, path: str, status: int) -> None:
    response = endpoint.http.request(method, path, json={})
    assert response.status_code == status
    assert response.json()["error"]
    if "/other" in path:
        assert response.json()["error"] == f"no model 'other' is served; there is {MODEL}, culture"


def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(endpoint: Any) -> None:
    response = endpoint.http.put(PREDICT)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error"] == f"PUT is not for {PREDICT}; it takes POST"


def test_a_slash_too_many_is_no_path_and_leads_nowhere(endpoint: Any) -> None:
    assert endpoint.http.get("/v1/models/").status_code == endpoint.http.post(f"{PREDICT}/").status_code == 404


def test_nobody_can_unload_a_model_over_grpc(endpoint: Any) -> None:
    with grpc.insecure_channel(endpoint.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="not unloaded over the network") as caught:
            stub.RepositoryModelUnload(RepositoryModelUnloadRequest(model_name=MODEL))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert endpoint.http.get("/v1/models").json() == {"models": [MODEL, "culture"]}


def test_a_body_without_a_length_is_cut_off_at_the_limit(endpoint: Any) -> None:
    sent = []

    def endless() -> Any:
        for _ in range(100):
            sent.append(1)
            yield b"x" * 100_000

    try:
        status = endpoint.http.post(PREDICT, content=endless()).status_code
    except httpx.WriteError:  # the server may close before all was sent
        status = 413
    assert status == 413


def test_answers_carry_the_request_s_id(endpoint: Any, png: Callable[..., bytes]) -> None:
    headers = {"x-request-id": "abc"}
    for instance in ({"b64": b64(png())}, {}):
        response = endpoint.http.post(PREDICT, json={"instances": [instance]}, headers=headers)
        assert response.headers["x-request-id"] == "abc"
    lines = [json.loads(line) for line in (endpoint.folder / "log").read_text().splitlines()]
    of_ours = [line for line in lines if line.get("request") == "abc"]
    assert [line["message"][:8] for line in of_ours] == ["answered", "refused:"]
    assert of_ours[0]["version"] == "1"


def test_no_request_fails_while_versions_change_and_each_names_its_own(
    endpoint: Any, make_bundle: Callable[..., str], png: Callable[..., bytes]
) -> None:
    """Version n calls everything class n, so that an answer from two versions at once would show."""
    made = {str(n): endpoint.make(str(n), favour=n, weight=0.1) for n in (3, 4)} | {"2": endpoint.first}
    images, stop = [png(seed) for seed in range(8)], []

    def ask() -> list[tuple[int, int, str, str]]:
        found = []
        with httpx.Client(base_url=endpoint.url, trust_env=False, timeout=60) as client:
            while not stop:
                body = {"instances": [{"b64": b64(images[len(found) % 8])}]}
                response = client.post(PREDICT, json=body)
                answer = response.json()["predictions"][0]
                found.append((response.status_code, answer["class"], answer["model_version"], answer["digest"]))
        return found

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        for version in ("3", "4", "3", "4"):
            status = endpoint.deploy(**{MODEL.replace("-", "_"): made[version]})
            assert status.models[MODEL].version == version
        stop.append(True)
        answers = [answer for each in asking for answer in each.result()]
    endpoint.deploy(**{MODEL.replace("-", "_"): made["2"]})
    assert len(answers) > 20
    assert {status for status, *_ in answers} == {200}
    named = {(klass, version, digest) for _, klass, version, digest in answers}
    expected = {(int(n), each.version, each.digest) for n, each in made.items()}
    assert named <= expected
    assert {version for _, version, _ in named} >= {"3", "4"}
