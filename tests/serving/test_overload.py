"""The endpoint under more load than it can bear, and what that does to stopping it and to changing its models."""

import base64
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from components.endpoint.files import WantedModel, write_desired

MODEL = "confluence-single-stack"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
TRY_AGAIN = "try again in a moment"


def by_rest(endpoint: Any, image: bytes, stop: list[bool]) -> list[httpx.Response]:
    """Ask as fast as the endpoint answers, until told to stop, or told by it to go elsewhere."""
    found, body = [], {"instances": [{"b64": base64.b64encode(image).decode()}]}
    with httpx.Client(base_url=endpoint.url, timeout=60, trust_env=False) as client:
        while not stop and not any(each.headers.get("connection") == "close" for each in found[-1:]):
            found.append(client.post(f"/v1/models/{MODEL}:predict", json=body))
    return found


def by_grpc(endpoint: Any, image: bytes, stop: list[bool]) -> list[str]:
    """Ask likewise; give the version that answered, or the error."""
    request = messages.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="image", datatype="BYTES", shape=[1]).contents.bytes_contents.append(image)
    found: list[str] = []
    with grpc.insecure_channel(endpoint.grpc) as channel:
        read = messages.ModelInferResponse.FromString
        ask = channel.unary_unary(METHOD, lambda message: message.SerializeToString(), read)
        while not stop and "is stopping" not in (found or [""])[-1]:
            try:
                found.append(ask(request, timeout=60).model_version)
            except grpc.RpcError as error:
                found.append(f"{error.code().name} {error.details()} {dict(error.trailing_metadata())}")
    return found


def results(asking: list[Future[list[Any]]]) -> list[Any]:
    return [each for future in asking for each in future.result()]


def test_a_crowd_is_refused_at_once_and_those_let_in_are_answered_while_health_answers_and_memory_stays(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1", slow=30)})
    image, stop, healthy = png(size=(300, 300)), [], 0
    with serve(tmp_path, "--threads", "1", "--queue", "3") as endpoint, ThreadPoolExecutor(40) as pool:
        endpoint.wait(lambda status: status.ready)
        process = psutil.Process(endpoint.process.pid)
        rest = [pool.submit(by_rest, endpoint, image, stop) for _ in range(32)]
        remote = [pool.submit(by_grpc, endpoint, image, stop) for _ in range(8)]
        began, sizes = time.monotonic(), []
        while time.monotonic() < began + 4:
            healthy += endpoint.http.get("/v2/health/ready").status_code == 200
            sizes.append(process.memory_info().rss)
        stop.append(True)
        responses, answers = results(rest), results(remote)
        assert endpoint.predict(image).status_code == 200  # at once
    assert healthy == len(sizes)
    assert max(sizes[len(sizes) // 2 :]) < max(sizes[: len(sizes) // 2]) + 60_000_000
    statuses = Counter(each.status_code for each in responses)
    assert set(statuses) == {200, 503}
    assert statuses[503] > statuses[200]
    for each in responses:
        if each.status_code == 503:
            assert each.headers["retry-after"] == "1"
            assert TRY_AGAIN in each.json()["error"]
    refused = [each for each in answers if each != "1"]
    assert 0 < len(refused) < len(answers)
    assert all(each.startswith("UNAVAILABLE") and TRY_AGAIN in each for each in refused)
    assert all("'retry-after': '1'" in each for each in refused)
    log = (tmp_path / "log").read_text()
    assert 0 < log.count("there was no place for them") < 20  # a line a second, not one a request


def test_sixteen_clients_are_never_refused(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1", slow=5)})
    stop: list[bool] = []
    with serve(tmp_path) as endpoint, ThreadPoolExecutor(16) as pool:
        endpoint.wait(lambda status: status.ready)
        rest = [pool.submit(by_rest, endpoint, png(), stop) for _ in range(8)]
        remote = [pool.submit(by_grpc, endpoint, png(), stop) for _ in range(8)]
        time.sleep(1.5)
        stop.append(True)
        assert {each.status_code for each in results(rest)} == {200}
        assert set(results(remote)) == {"1"}


def test_sigterm_under_load_fails_no_request_that_was_taken(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1", slow=20)})
    never: list[bool] = []
    with serve(tmp_path, "--drain", "2") as endpoint, ThreadPoolExecutor(16) as pool:
        endpoint.wait(lambda status: status.ready)
        rest = [pool.submit(by_rest, endpoint, png(), never) for _ in range(8)]
        remote = [pool.submit(by_grpc, endpoint, png(), never) for _ in range(8)]
        time.sleep(0.5)
        endpoint.process.terminate()
        assert {each.status_code for each in results(rest)} == {200}
        for each in remote:
            *answers, last = each.result()
            assert set(answers) == {"1"}
            assert last.startswith("UNAVAILABLE the endpoint is stopping")
        assert endpoint.process.wait(60) == 0


def test_a_swap_under_overload_fails_no_request_that_was_taken_and_each_names_its_version(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1", slow=5)})
    stop: list[bool] = []
    with serve(tmp_path, "--queue", "4") as endpoint, ThreadPoolExecutor(16) as pool:
        endpoint.wait(lambda status: status.ready)
        rest = [pool.submit(by_rest, endpoint, png(), stop) for _ in range(8)]
        remote = [pool.submit(by_grpc, endpoint, png(), stop) for _ in range(8)]
        assert endpoint.deploy(confluence_single_stack=wanted("2", slow=5, favour=3)).models[MODEL].version == "2"
        time.sleep(0.5)
        stop.append(True)
        responses, answers = results(rest), results(remote)
    assert {each.status_code for each in responses} == {200, 503}
    named = {
        (each["model_version"], each["class"])
        for response in responses
        if response.status_code == 200
        for each in response.json()["predictions"]
    }
    assert named == {("1", 1), ("2", 3)}
    assert {each for each in answers if TRY_AGAIN not in each} == {"1", "2"}


@pytest.mark.parametrize("what", ["lost", "altered"])
def test_a_server_that_starts_with_a_broken_model_lives_and_says_why(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], what: str
) -> None:
    broken = wanted("1")
    network = Path(broken.path) / "model.onnx"
    if what == "lost":
        network.unlink()
    else:
        network.write_bytes(network.read_bytes() + b"x")
    write_desired(tmp_path, {MODEL: broken})
    with serve(tmp_path) as endpoint:
        endpoint.wait(lambda status: MODEL in status.models and status.models[MODEL].state == "failed")
        assert endpoint.http.get("/v2/health/live").status_code == 200
        ready = endpoint.http.get("/v2/health/ready")
    assert ready.status_code == 503
    assert {"lost": "is missing", "altered": "has digest"}[what] in ready.json()["error"]


def test_what_is_cut_off_when_the_grace_ends_is_told_to_ask_again(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1")})
    code = "import serving.lean as lean; lean.import_kserve(); import serving.server as server\n"
    code += "server.GRACE_SECONDS = 1\nimport sys\nfrom serving.__main__ import main\nsys.exit(main())"
    with serve(tmp_path, "--drain", "0", code=code) as endpoint:
        status = endpoint.wait(lambda status: status.ready)
        with socket.create_connection(("127.0.0.1", status.port), timeout=30) as client:
            head = f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
            client.sendall(head.encode() + b"{")
            time.sleep(0.3)
            endpoint.process.terminate()
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 503"), answer
        assert b'"reason":"stopping"' in answer.replace(b" ", b"")
        assert b"retry-after" in answer.lower()
        assert endpoint.process.wait(60) == 0
