"""Rollouts on this machine, with the real server."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from components.bundle import KnownAnswer
from components.deployment import local, process
from components.deployment.check import wait_until_settled
from components.endpoint.client import Client
from components.endpoint.files import DESIRED_FILE, read_desired
from components.errors import DeploymentError, EndpointUnavailable, InputError, StorageError, UnfitModel
from components.settings import ServingSettings
from tests.certificates import Authority

MODEL = "confluence-single-stack"
WRONG = KnownAnswer(probabilities=(0.7, 0.1, 0.1, 0.1))


def answer(home: Path, image: bytes) -> tuple[str, int]:
    """Ask the endpoint of a home: which version answered, and with what class."""
    with Client(local.status(home)["url"]) as client:
        (prediction,) = client.predict(MODEL, [("image", image)])
    return prediction.model_version, prediction.confluence_class


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_models_are_started_swapped_and_undone(
    home: Path,
    free_ports: ServingSettings,
    wanted: Callable[..., Any],
    png: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (local.folder_of(home) / DESIRED_FILE).write_text("{")  # nobody can read it; it is replaced
    first = local.roll_out(home, free_ports, wanted("1", favour=1))
    assert first.started
    assert answer(home, png()) == ("1", 1)

    second = local.roll_out(home, free_ports, wanted("2", favour=2))
    assert not second.started
    assert second.status.pid == first.status.pid
    assert second.previous[MODEL].version == "1"
    assert answer(home, png()) == ("2", 2)

    with pytest.raises(UnfitModel, match=f"{MODEL} 3 cannot serve: known.png was answered"):
        local.roll_out(home, free_ports, wanted("3", favour=3, known=WRONG))
    assert read_desired(home / "endpoint").models[MODEL].version == "2"
    assert answer(home, png()) == ("2", 2)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(local, "check_model", interrupt)
        local.roll_out(home, free_ports, wanted("4", favour=4))
    assert read_desired(home / "endpoint").models[MODEL].version == "2"
    wait_until_settled(home / "endpoint", read_desired(home / "endpoint").generation, timeout=60)

    os.kill(first.status.pid, signal.SIGSTOP)  # a server that hangs
    with pytest.raises(DeploymentError, match=r"did not load within 0\.5 s; see .*server\.log"):
        local.roll_out(home, free_ports.model_copy(update={"start_timeout": 0.5}), wanted("5"))
    os.kill(first.status.pid, signal.SIGCONT)
    assert answer(home, png()) == ("2", 2)

    other = "confluence-multi-stack"
    local.roll_out(home, free_ports, wanted("1", name=other))
    described = local.status(home)
    assert (described["running"], described["ready"], described["pid"]) == (True, True, first.status.pid)
    assert {each["name"]: each["version"] for each in described["models"]} == {MODEL: "2", other: "1"}

    assert local.stop(home)
    assert not psutil.pid_exists(first.status.pid) or psutil.Process(first.status.pid).status() == "zombie"
    assert local.status(home) == {"running": False}
    assert not local.stop(home)


def test_a_first_model_that_cannot_serve_leaves_no_server_behind(
    home: Path, free_ports: ServingSettings, wanted: Callable[..., Any]
) -> None:
    with pytest.raises(UnfitModel, match="cannot serve"):
        local.roll_out(home, free_ports, wanted("1", known=WRONG))
    assert local.status(home) == {"running": False}
    assert read_desired(home / "endpoint").models == {}


def test_a_server_that_was_killed_is_started_again_with_all_its_models(
    home: Path, free_ports: ServingSettings, wanted: Callable[..., Any], png: Callable[..., bytes]
) -> None:
    other = "confluence-multi-stack"
    first = local.roll_out(home, free_ports, wanted("1") | wanted("1", name=other))
    os.kill(first.status.pid, signal.SIGKILL)
    psutil.Process(first.status.pid).wait(10)
    assert local.status(home) == {"running": False}
    second = local.roll_out(home, free_ports, wanted("2"))
    assert second.started
    assert answer(home, png())[0] == "2"
    assert set(second.status.models) == {MODEL, other}


def test_a_process_number_that_was_given_to_another_is_not_taken_for_ours(home: Path) -> None:
    folder = local.folder_of(home)
    mine = psutil.Process()
    for started, found in ((mine.create_time(), True), (mine.create_time() - 60, False)):
        record = process.EndpointProcess(mine.pid, started, [])
        (folder / process.PROCESS_FILE).write_bytes(msgspec.json.encode(record))
        assert (process.find(folder) is not None) is found
    assert not local.stop(home)  # the test itself, were it taken for the endpoint


def test_two_rollouts_at_once_take_turns(
    home: Path, free_ports: ServingSettings, wanted: Callable[..., Any], png: Callable[..., bytes]
) -> None:
    models = [wanted("1", favour=1), wanted("2", favour=2)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda each: local.roll_out(home, free_ports, each), models))
    assert sorted(each.started for each in done) == [False, True]
    assert done[0].status.pid == done[1].status.pid
    last = read_desired(home / "endpoint").models[MODEL].version
    assert answer(home, png()) == (last, int(last))


def test_a_server_that_ends_as_it_starts_is_told_with_its_last_words(
    home: Path, free_ports: ServingSettings, wanted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "options", lambda settings: ["--threads", "0"])
    with pytest.raises(EndpointUnavailable, match="ended as it started: --threads 0: Input should be"):
        local.roll_out(home, free_ports, wanted("1"))
    monkeypatch.undo()
    (home / "endpoint" / process.LOG_FILE).mkdir()
    with pytest.raises(DeploymentError, match="ended as it started: IsADirectoryError"):
        local.roll_out(home, free_ports, wanted("1"))
    assert local.status(home) == {"running": False}


@pytest.mark.parametrize("setting", ["port", "grpc_port"])
def test_a_port_that_another_program_holds_is_named_before_anything_is_done(
    home: Path, wanted: Callable[..., Any], setting: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ServingSettings.model_validate({"port": 0, "grpc_port": 0} | {setting: port})
        with pytest.raises(EndpointUnavailable) as caught:
            local.roll_out(home, settings, wanted("1"))
    flag = f"--{setting.replace('_', '-')}"
    assert str(caught.value) == (
        f"port {port} on 127.0.0.1 is taken by another program; "
        f"give another with {flag} or MSCFLOW_SERVING__{setting.upper()}"
    )
    assert not (home / "endpoint" / DESIRED_FILE).exists()


def test_ports_are_ours_theirs_or_elsewhere(
    home: Path, tmp_path: Path, free_ports: ServingSettings, wanted: Callable[..., Any]
) -> None:
    status = local.roll_out(home, free_ports, wanted("1")).status
    here = free_ports.model_copy(update={"port": status.port, "grpc_port": status.grpc_port})
    local.check_ports(here, home)
    local.check_port("127.0.0.1", status.port, home)
    local.check_port("127.0.0.1", status.grpc_port, home)
    with pytest.raises(EndpointUnavailable, match="is taken by the mscflow endpoint of another home"):
        local.check_ports(here, tmp_path / "another")
    with pytest.raises(EndpointUnavailable, match=r"runs on port .* not 1; stop it with 'mscflow serve --stop'"):
        local.roll_out(home, here.model_copy(update={"port": 1}), wanted("2"))


def test_a_host_that_is_none_of_this_machine_s_is_refused(home: Path) -> None:
    with pytest.raises(EndpointUnavailable, match=r"port 8080 on 192\.0\.2\.1 fails: Cannot assign"):
        local.check_port("192.0.2.1", 8080, home)


def test_a_program_that_answers_nonsense_on_the_port_is_another_program(home: Path) -> None:
    class Nonsense(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n[]")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Nonsense) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with pytest.raises(EndpointUnavailable, match="is taken by another program"):
            local.check_port("127.0.0.1", server.server_port, home)
        server.shutdown()


FOREGROUND = """
import sys
from pathlib import Path
from components.deployment import local
from components.endpoint.files import WantedModel
from components.settings import ServingSettings
from tests.certificates import Authority
home, path, digest = sys.argv[1:]
models = {"confluence-single-stack": WantedModel(path, "1", digest)}
settings = ServingSettings(port=0, grpc_port=0)
sys.exit(local.serve_foreground(Path(home), settings, models, lambda status: print("up", flush=True)))
"""


def test_a_server_in_the_foreground_takes_rollouts_and_ends_with_ctrl_c(
    home: Path, free_ports: ServingSettings, wanted: Callable[..., Any], png: Callable[..., bytes]
) -> None:
    first = wanted("1")[MODEL]
    command = [sys.executable, "-c", FOREGROUND, str(home), first.path, first.digest]
    shell = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert shell.stdout.readline() == b"up\n"
    assert answer(home, png())[0] == "1"
    assert not local.roll_out(home, free_ports, wanted("2")).started
    assert answer(home, png())[0] == "2"
    with pytest.raises(EndpointUnavailable, match=r"runs already at http://127\.0\.0\.1:"):
        local.serve_foreground(home, free_ports, {}, lambda status: None)
    os.killpg(shell.pid, signal.SIGINT)  # as a terminal does: to all of the group
    assert shell.wait(60) == 0
    shell.stdout.close()
    deadline = time.monotonic() + 10
    while local.status(home)["running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert local.status(home) == {"running": False}


def test_a_home_that_cannot_be_written_is_told(tmp_path: Path, free_ports: ServingSettings) -> None:
    (tmp_path / "home").write_text("a file")
    with pytest.raises(StorageError, match=r"endpoint cannot be made .*; give another --home"):
        local.roll_out(tmp_path / "home", free_ports, {})
    folder = local.folder_of(tmp_path / "another")
    (folder / process.STARTUP_FILE).mkdir()
    with pytest.raises(StorageError, match="the endpoint cannot be started in"):
        local.roll_out(tmp_path / "another", free_ports, {})


def test_an_endpoint_with_tls_and_a_token_is_rolled_out_to(
    home: Path,
    free_ports: ServingSettings,
    wanted: Callable[..., Any],
    png: Callable[..., bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = Authority(tmp_path)
    server, token = authority.issue("server"), tmp_path / "token"
    token.write_text("a-token-of-a-test")
    monkeypatch.setenv("MSCFLOW_TOKEN", "a-token-of-a-test")
    monkeypatch.setenv("MSCFLOW_CA", str(authority.certificate))
    closed = {"tls_certificate": server.certificate, "tls_key": server.key, "token_file": token}
    settings = ServingSettings.model_validate({**free_ports.model_dump(), **closed})
    local.roll_out(home, settings, wanted("1"))
    assert local.status(home)["url"].startswith("https://")
    assert answer(home, png())[0] == "1"
    monkeypatch.setenv("MSCFLOW_TOKEN", "another-token-of-a-test")
    with pytest.raises(InputError, match="token"):
        answer(home, png())
