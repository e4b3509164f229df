"""What is made of a Kubernetes API server's answers; a real one is asked in tests/components/training."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from components.apiserver import ApiServer
from components.errors import ClusterError, ClusterUnavailable
from components.patience import VARIABLE

FOUND = {"metadata": {"name": "one", "uid": "1"}}
Answer = tuple[int, Any]


class Scripted(ThreadingHTTPServer):
    """Gives one answer after the other, and the last time and again."""

    answers: list[Answer]
    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        status, body = self.server.answers[min(len(self.server.asked), len(self.server.answers) - 1)]
        self.server.asked.append(self.path)
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        content = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def answering(*answers: Answer) -> Iterator[tuple[ApiServer, Scripted]]:
    with Scripted(("127.0.0.1", 0), Handler) as server:
        server.answers, server.asked = list(answers), []
        Thread(target=server.serve_forever, daemon=True).start()
        configuration = Configuration(host=f"http://127.0.0.1:{server.server_port}")
        configuration.retries = False
        yield ApiServer("space", ApiClient(configuration)), server
        server.shutdown()


def status(code: int, reason: str, message: str = "told") -> Answer:
    return code, {"kind": "Status", "reason": reason, "message": message}


def get(server: ApiServer) -> Any:
    return server.get("trainjobs", "trainer.kubeflow.org/v1alpha1", "one")


def test_a_server_that_is_away_for_a_moment_is_waited_for() -> None:
    with answering(status(503, "ServiceUnavailable"), status(429, "TooManyRequests"), (200, FOUND)) as (server, script):
        assert get(server) == FOUND
        assert script.asked == ["/apis/trainer.kubeflow.org/v1alpha1/namespaces/space/trainjobs/one"] * 3


def test_a_server_that_stays_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    with answering((200, FOUND)) as (server, script):
        script.shutdown()
        script.server_close()
        with pytest.raises(ClusterUnavailable, match="does not answer"):
            get(server)


def test_what_is_not_there_is_none_but_an_unknown_kind_is_an_error() -> None:
    with answering(status(404, "NotFound"), (404, "404 page not found")) as (server, _):
        assert get(server) is None
        with pytest.raises(ClusterError, match="knows no such kind; install the controller"):
            get(server)


@pytest.mark.parametrize("code", [401, 403])
def test_missing_rights_are_told_with_the_servers_own_words(code: int) -> None:
    refusal = status(code, "Forbidden", 'trainjobs "one" is forbidden:\n no right')
    with answering(refusal) as (server, _), pytest.raises(ClusterError, match=r"is forbidden: no right; give its Serv"):
        get(server)


def test_of_two_that_create_one_name_one_is_told_nothing() -> None:
    manifest = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {"name": "one"}}
    with answering((201, FOUND), status(409, "AlreadyExists")) as (server, script):
        assert server.create("trainjobs", manifest) == FOUND
        assert server.create("trainjobs", manifest) is None
        assert all(path.endswith("/trainjobs?fieldValidation=Strict") for path in script.asked)


def test_deleting_what_is_gone_or_another_s_is_no_error() -> None:
    with answering(status(404, "NotFound"), status(409, "Conflict"), status(403, "Forbidden")) as (server, _):
        for _ in range(2):
            server.delete("trainjobs", "trainer.kubeflow.org/v1alpha1", "one", "uid")
        with pytest.raises(ClusterError, match="delete trainjobs/one"):
            server.delete("trainjobs", "trainer.kubeflow.org/v1alpha1", "one", "uid")


def test_a_log_that_is_cut_within_a_character_is_read() -> None:
    with answering((200, "ein wärmer".encode()[:6])) as (server, _):
        assert server.log("one", "node") == "ein w\N{REPLACEMENT CHARACTER}"


def test_the_log_of_a_pod_that_has_not_started_is_empty_and_one_that_may_not_be_read_an_error() -> None:
    refused = status(403, "Forbidden", "pods/log is forbidden")
    with answering(status(400, "BadRequest"), status(404, "NotFound"), refused) as (server, _):
        assert (server.log("one", "node"), server.log("one", "node")) == ("", "")
        with pytest.raises(ClusterError, match="pods/log is forbidden"):
            server.log("one", "node")
