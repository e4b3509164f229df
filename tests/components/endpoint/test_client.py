"""The client against a server on loopback that answers as it is told to."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.endpoint import connection
from components.endpoint.client import Client
from components.errors import EndpointUnavailable, ImageError, InputError, MscflowError

PREDICTION = {
    "class": 3,
    "name": "subculture",
    "probabilities": {"seeding": 0.1, "media change": 0.1, "subculture": 0.7, "overgrown": 0.1},
    "confidence": 0.7,
    "decision": "subculture",
    "abstain": False,
    "reason": None,
    "model": "m",
    "model_version": "4",
    "data_version": "d",
    "digest": "e",
}
CELLS = {
    "cells": [{"box": [1.0, 2.0, 3.0, 4.0], "score": 0.9}],
    "count": 1,
    "min_score": 0.5,
    "width": 9,
    "height": 8,
    **{name: PREDICTION[name] for name in ("abstain", "reason", "model", "model_version", "data_version", "digest")},
}
CULTURE = {"modality": "single_stack", "confluence": PREDICTION, "abnormal_cells": CELLS}
GOOD = (200, {"predictions": [PREDICTION]}, {})
BUSY = (503, {"error": "already holds 66 requests", "reason": "overloaded"}, {"Retry-After": "0"})


class Scripted(ThreadingHTTPServer):
    """Gives the scripted answers one after the other, the last one for ever."""

    script: list[tuple[int, Any, dict[str, str]]]
    seen: list[tuple[str, bytes]]
    headers: list[Any]

    def handle_error(self, *_: object) -> None:
        """Clients that leave are no news here."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.seen.append((self.path, body))
        server.headers.append(self.headers)
        status, content, headers = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_GET  # noqa: N815 - the name is http.server's

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted(("127.0.0.1", 0), Handler) as found:
        found.seen, found.headers = [], []
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield found
        found.shutdown()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_WAIT", 0.01)


def ask(server: Scripted, *script: tuple[int, Any, dict[str, str]], patience: float = 1.0) -> Any:
    server.script = list(script)
    with Client(f"http://127.0.0.1:{server.server_port}/", patience=patience) as client:
        return client.predict("m", [("a.png", b"image")])


def test_an_answer_becomes_a_prediction(server: Scripted) -> None:
    (prediction,) = ask(server, GOOD)
    assert (prediction.confluence_class, prediction.name, prediction.model_version) == (3, "subculture", "4")
    path, body = server.seen[0]
    assert (path, json.loads(body)) == ("/v1/models/m:predict", {"instances": [{"image": {"b64": "aW1hZ2U="}}]})


def test_a_busy_endpoint_is_asked_again(server: Scripted) -> None:
    assert ask(server, BUSY, (429, BUSY[1], {}), GOOD)[0].name == "subculture"
    assert len(server.seen) == 3


def test_a_gateway_whose_endpoint_starts_is_asked_again(server: Scripted) -> None:
    assert ask(server, (502, b"<html>", {}), (504, b"<html>", {}), GOOD)[0].name == "subculture"
    with pytest.raises(EndpointUnavailable, match="the gateway says 502 Bad Gateway"):
        ask(server, (502, b"<html>", {}), patience=0.1)


def test_an_endpoint_that_stays_busy_is_given_up(server: Scripted) -> None:
    with pytest.raises(EndpointUnavailable, match="already holds 66 requests"):
        ask(server, BUSY, patience=0.1)
    assert len(server.seen) > 1


def test_a_wait_longer_than_the_patience_is_not_waited(server: Scripted) -> None:
    with pytest.raises(EndpointUnavailable, match="already holds"):
        ask(server, (503, BUSY[1], {"Retry-After": "3600"}))
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        ((400, {"error": "no JPEG", "reason": "unreadable"}, {}), ImageError, "a.png: no JPEG"),
        ((413, {"error": "too many pixels", "reason": "too_large"}, {}), ImageError, "a.png: too many pixels"),
        ((404, {"error": "no model 'm' is served; there is x"}, {}), InputError, "no model 'm' is served"),
        ((500, {"error": "the endpoint failed"}, {}), MscflowError, "the endpoint failed"),
        ((404, {"error": "no model for multi_stack", "reason": "unknown_model"}, {}), InputError, "for multi_stack"),
        ((400, {"error": "give the modality", "reason": "bad_request"}, {}), InputError, "give the modality"),
        ((401, {"error": "bring a token", "reason": "unauthorised"}, {}), InputError, "bring a token"),
        ((403, b"<html>Forbidden</html>", {}), InputError, "the token is missing or not accepted; set MSCFLOW_TOKEN"),
        ((301, b"", {"Location": "https://there/"}), InputError, "leads on to https://there/; give that address"),
        ((404, b"<html>Not found</html>", {}), EndpointUnavailable, "is no endpoint of mscflow; check the URL"),
        ((200, {"predictions": []}, {}), EndpointUnavailable, "is no endpoint of mscflow"),
        ((200, {"predictions": [{"class": 3}]}, {}), EndpointUnavailable, "is no endpoint of mscflow"),
    ],
)
def test_refusals_become_errors(server: Scripted, answer: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        ask(server, answer)
    assert type(caught.value) is kind
    assert len(server.seen) == 1


def test_one_bad_image_does_not_end_a_stream(server: Scripted) -> None:
    server.script = [(400, {"error": "no JPEG", "reason": "unreadable"}, {}), GOOD]
    with Client(f"http://127.0.0.1:{server.server_port}", at_once=1) as client:
        first, second = client.stream("m", [("bad", b""), ("good", b"x")])
    assert (first.name, first.prediction, str(first.error)) == ("bad", None, "bad: no JPEG")
    assert second.prediction.name == "subculture"


def test_readiness_and_models_are_told(server: Scripted) -> None:
    server.script = [(503, {"error": "not ready: x"}, {}), (200, {"ready": True}, {}), (200, {"models": ["m"]}, {})]
    with Client(f"http://127.0.0.1:{server.server_port}") as client:
        assert (client.why_not_ready(), client.why_not_ready(), client.models()) == ("not ready: x", None, ["m"])


def test_nobody_there_is_one_clear_line() -> None:
    with Client("http://127.0.0.1:9", patience=0.05) as client, pytest.raises(EndpointUnavailable) as caught:
        client.models()
    assert "no endpoint answers at http://127.0.0.1:9 (" in str(caught.value)
    assert "start one with 'mscflow serve'" in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://host", "http://", ""])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="is not the URL of an endpoint; give it as http"):
        Client(url)


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(server, GOOD)[0].name == "subculture"


def test_cells_and_culture_have_types_of_their_own(server: Scripted) -> None:
    with Client(f"http://127.0.0.1:{server.server_port}") as client:
        server.script = [(200, {"predictions": [CELLS]}, {})]
        (cells,) = client.find_cells([("a.png", b"image")])
        server.script = [(200, {"predictions": [CULTURE]}, {})]
        (culture,) = client.judge([("a.png", b"image")], "single_stack")
        (answer,) = client.stream("culture", [("a.png", b"image")], "single_stack")
    assert (cells.count, cells.cells[0].box, cells.note) == (1, (1.0, 2.0, 3.0, 4.0), None)
    assert (culture.confluence.confluence_class, culture.abnormal_cells) == (3, cells)
    assert answer.prediction == culture
    assert [path for path, _ in server.seen] == [
        "/v1/models/abnormal-cells:predict",
        *["/v1/models/culture:predict"] * 2,
    ]
    assert "modality" not in json.loads(server.seen[0][1])["instances"][0]
    assert json.loads(server.seen[1][1])["instances"][0]["modality"] == "single_stack"


def test_files_are_read_as_they_are_asked_about(server: Scripted, tmp_path: Path) -> None:
    server.script = [GOOD]
    (tmp_path / "a").write_bytes(b"image")
    images = [("there", tmp_path / "a"), ("gone", tmp_path / "b"), ("folder", tmp_path)]
    with Client(f"http://127.0.0.1:{server.server_port}") as client:
        there, gone, folder = client.stream("m", images)
    assert there.prediction is not None
    assert str(gone.error) == "gone: the file cannot be read (No such file or directory)"
    assert str(folder.error) == "folder: the file cannot be read (Is a directory)"
    assert len(server.seen) == 1


def test_a_refusal_that_concerns_all_images_ends_a_stream(server: Scripted) -> None:
    server.script = [(404, {"error": "no model 'm' is served", "reason": "unknown_model"}, {})]
    with Client(f"http://127.0.0.1:{server.server_port}", at_once=2) as client:
        answers = client.stream("m", [(str(index), b"x") for index in range(100)])
        with pytest.raises(InputError, match="no model 'm'"):
            next(answers)
    assert len(server.seen) < 10


def test_the_token_goes_with_each_request(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script = [(200, {"models": []}, {})]
    monkeypatch.setenv("MSCFLOW_TOKEN", "of-the-environment")
    for token in (None, "given"):
        with Client(f"http://127.0.0.1:{server.server_port}", token=token) as client:
            client.models()
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer of-the-environment", "Bearer given"]


def test_several_requests_are_in_flight_at_once(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script = [GOOD]
    together = threading.Barrier(4)
    usual = Handler.do_GET

    def wait(self: Handler) -> None:
        together.wait(10)
        usual(self)

    monkeypatch.setattr(Handler, "do_POST", wait)
    with Client(f"http://127.0.0.1:{server.server_port}", at_once=4) as client:
        assert len(client.predict("m", [(str(index), b"x") for index in range(8)])) == 8
