"""How the endpoint starts, refuses to start, changes its models, sheds load and ends."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from components.bundle import KnownAnswer
from components.endpoint.files import DESIRED_FILE, WantedModel, read_status, write_desired

MODEL = "confluence-single-stack"
WRONG = KnownAnswer(probabilities=(0.7, 0.1, 0.1, 0.1))
# Starts the server, and prints which modules it had imported when it ends.
PRINT_MODULES = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), flush=True))
from serving.__main__ import main
sys.exit(main())
"""


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_broken_model_never_replaces_one_that_serves_and_no_training_library_is_imported(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    good = wanted("1", favour=2)
    lost, cut = wanted("lost"), wanted("cut")
    (Path(lost.path) / "model.onnx").unlink()
    network = Path(cut.path) / "model.onnx"
    network.write_bytes(network.read_bytes()[:-1])
    broken = {
        "model.onnx is missing": lost,
        "has digest": cut,
        "holds no bundle.json": WantedModel(str(tmp_path / "nowhere"), "9", "0" * 64),
        "known.png was answered": wanted("wrong", known=WRONG),
        "ONNX Runtime refuses": wanted("frozen", frozen_batch=True),
    }
    write_desired(tmp_path, {MODEL: good})
    with serve(tmp_path, code=PRINT_MODULES) as endpoint:
        for reason, bad in broken.items():
            model = endpoint.deploy(confluence_single_stack=bad).models[MODEL]
            assert (model.state, model.version, model.digest) == ("failed", "1", good.digest)
            assert reason in model.reason
            assert endpoint.http.get("/v2/health/ready").status_code == 200
            assert endpoint.predict(png()).json()["predictions"][0]["model_version"] == "1"
        (tmp_path / DESIRED_FILE).write_text("{")
        endpoint.wait(lambda status: status.problem is not None)
        assert endpoint.predict(png()).status_code == 200
        assert endpoint.deploy(confluence_single_stack=wanted("2")).models[MODEL].version == "2"
        assert endpoint.deploy().models == {}
        assert endpoint.predict(png()).status_code == 404
        assert endpoint.stop() == 0
        modules = set(json.loads(endpoint.process.stdout.read().splitlines()[-1]))
    assert "onnxruntime" in modules
    heavy = {"torch", "mlflow", "pandas", "pyarrow", "kubernetes", "kfp", "sklearn", "optuna", "matplotlib", "onnx"}
    assert not heavy & modules


def test_a_model_broken_at_start_leaves_the_server_alive_not_ready_and_saying_why(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("1", known=WRONG)})
    with serve(tmp_path) as endpoint:
        status = endpoint.wait(lambda found: MODEL in found.models and found.models[MODEL].state == "failed")
        assert not status.ready
        assert endpoint.http.get("/v2/health/live").status_code == 200
        ready = endpoint.http.get("/v2/health/ready")
        assert (ready.status_code, ready.headers["retry-after"]) == (503, "5")
        assert f"not ready: {MODEL}: known.png was answered" in ready.json()["error"]
        for response in (endpoint.predict(png()), endpoint.http.get(f"/v2/models/{MODEL}/ready")):
            assert response.status_code == 503
            assert "known.png was answered" in response.json()["error"]
        with grpc.insecure_channel(endpoint.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
            GRPCInferenceServiceStub(channel).ModelInfer(ModelInferRequest(model_name=MODEL))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "known.png was answered" in caught.value.details()
        assert ("retry-after", "5") in list(caught.value.trailing_metadata())

        assert not endpoint.deploy().ready
        assert "no model has been deployed to it" in endpoint.http.get("/v2/health/ready").json()["error"]
        assert endpoint.http.get("/v1/models").json() == {"models": []}
        assert endpoint.deploy(confluence_single_stack=wanted("2")).ready
        assert endpoint.predict(png()).status_code == 200


def fill(endpoint: Any, pool: ThreadPoolExecutor, image: bytes) -> tuple[list[Any], httpx.Response]:
    """Send as many requests as are held, until one more is refused; give them and the refusal."""
    for _ in range(20):
        held = [pool.submit(endpoint.predict, image) for _ in range(3)]
        while not all(each.done() for each in held):
            probe = endpoint.http.post(f"/v1/models/{MODEL}:predict", content=b"{}")
            if probe.status_code == 503:
                return held, probe
        assert {each.result().status_code for each in held} <= {200, 503}
    raise AssertionError("never were three requests held at once")


def test_overload_is_refused_at_once_and_sigterm_finishes_what_was_taken(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    write_desired(tmp_path, {MODEL: wanted("slow", slow=600)})
    with serve(tmp_path, "--threads", "1", "--queue", "2") as endpoint, ThreadPoolExecutor(3) as pool:
        endpoint.wait(lambda status: status.ready)
        held, refused = fill(endpoint, pool, png())
        assert endpoint.http.get("/v2/health/ready").status_code == 200
        assert refused.headers["retry-after"] == "1"
        assert "already holds 3 requests; try again" in refused.json()["error"]
        endpoint.process.terminate()
        assert [each.result().status_code for each in held] == [200, 200, 200]
        assert endpoint.process.wait(60) == 0
    assert not read_status(tmp_path).ready


@pytest.mark.parametrize("option", ["--port", "--grpc-port"])
def test_a_taken_port_is_one_clear_line_and_exit_code_2(tmp_path: Path, option: str) -> None:
    other = {"--port": "--grpc-port", "--grpc-port": "--port"}[option]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = start("--folder", str(tmp_path), option, str(port), other, "0")
    lines = ended.stderr.strip().splitlines()
    assert ended.returncode == 2
    assert str(port) in lines[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folder", "/does/not/exist"], "--folder '/does/not/exist' is not a folder"),
        (["--folder", ".", "--port", "70000"], "--port 70000: Input should be less than or equal to 65535"),
        (["--folder", ".", "--threads", "0"], "--threads 0: Input should be greater than or equal to 1"),
        (["--folder", ".", "--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid:8080"),
        ([], "--folder"),
    ],
)
def test_a_wrong_option_is_one_clear_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    from serving.__main__ import main

    try:
        code = main(arguments)
    except SystemExit as ended:  # argparse's own way
        code = ended.code
    assert code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_help_shows_every_option_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    from serving.__main__ import main

    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for word in ("--folder", "--host", "--grpc-port", "--threads", "--queue", "--max-image-bytes", "examples:", "curl"):
        assert word in text
