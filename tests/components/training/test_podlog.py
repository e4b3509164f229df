from typing import Any

import pytest

from components.errors import ClusterError
from components.events import observed
from components.training.podlog import PodLog

INDEX = "batch.kubernetes.io/job-completion-index"


class Server:
    """An API server with pods and their logs, as far as ``PodLog`` asks for them."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.there, self.logs, self.refused = list(pods), dict[str, str](), False

    def pods(self, labels: str) -> list[dict[str, Any]]:
        assert labels == "jobset.sigs.k8s.io/jobset-name=job,jobset.sigs.k8s.io/replicatedjob-name=node"
        return self.there

    def log(self, pod: str, container: str, seconds: int | None) -> str:
        assert container == "node"
        if self.refused:
            raise ClusterError("the API server does not let this account")
        return self.logs.get(pod, "")


def pod(name: str, index: int = 0, *, created: str = "2026-01-01T00:00:00Z", **status: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {INDEX: str(index)}, "creationTimestamp": created}
    return {"metadata": metadata, "status": status}


def line(second: str, text: str) -> str:
    return f"2026-01-01T00:00:{second}Z {text}\n"


def progress(done: int) -> str:
    return f'{{"event": "progress", "time": 1.5, "task": "train", "done": {done}, "total": 4}}'


def passed_on(log: PodLog) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    with observed(events.append):
        log.pass_on()
    return events


def test_each_event_of_the_first_pod_is_passed_on_once(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(pod("second", 1), pod("first"))
    server.logs["first"] = line("01.5", progress(1)) + line("01.51", "words of a library")
    log = PodLog(server, "job")
    assert passed_on(log) == [{"event": "progress", "task": "train", "done": 1, "total": 4}]
    # The next answer begins a while before the last one's end; times leave out the zeros at their end.
    server.logs["first"] += line("01.511", progress(2)) + line("02", progress(3))
    assert [event["done"] for event in passed_on(log)] == [2, 3]
    assert passed_on(log) == []
    assert capsys.readouterr().err == "[first] words of a library\n"
    assert log.last == "words of a library"


@pytest.mark.parametrize("odd", ["unable to retrieve container logs for containerd://1", "2026-01-01T00:0", ""])
def test_a_line_without_a_time_hides_nothing_that_follows(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(pod("first"))
    server.logs["first"] = f"{odd}\n" + line("01", progress(1)) + odd
    log = PodLog(server, "job")
    assert [event["done"] for event in passed_on(log)] == [1]
    server.logs["first"] = line("02", progress(2))
    assert [event["done"] for event in passed_on(log)] == [2]
    assert capsys.readouterr().err == ""


def test_a_bar_that_is_drawn_in_one_line_hides_nothing_that_follows(capsys: pytest.CaptureFixture[str]) -> None:
    server = Server(pod("first"))
    server.logs["first"] = line("01", "10 %\rdone 100 %") + line("02", progress(1))
    assert [event["done"] for event in passed_on(PodLog(server, "job"))] == [1]
    assert capsys.readouterr().err == "[first] 10 %\rdone 100 %\n"


def test_a_pod_that_came_for_another_is_read_from_its_beginning() -> None:
    server = Server(pod("first"))
    server.logs["first"] = line("30", progress(2))
    log = PodLog(server, "job")
    passed_on(log)
    server.there.append(pod("anew", created="2026-01-01T00:01:00Z"))
    server.logs["anew"] = line("20", progress(1))
    assert [event["done"] for event in passed_on(log)] == [1]


def test_what_a_training_died_of_is_kept_and_not_passed_on() -> None:
    server = Server(pod("first"))
    server.logs["first"] = line("01", '{"event": "error", "message": "the disk is full"}') + line("02", '{"event": 1')
    log = PodLog(server, "job")
    assert passed_on(log) == []
    server.logs["first"] = line("03", '{"event": "error", "message": "the disk is full"}')
    log.pass_on()
    assert log.last == "the disk is full"


def test_where_logs_may_not_be_read_it_is_said_once() -> None:
    server = Server(pod("first"))
    server.refused = True
    log = PodLog(server, "job")
    (note,) = passed_on(log)
    assert note["event"] == "note"
    assert "the training goes on: the API server does not let this account" in note["message"]
    assert passed_on(log) == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes have a GPU"}]},
            "0/3 nodes have a GPU",
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]},
            "ImagePullBackOff no such image",
        ),
        ({"containerStatuses": [{"state": {"running": {}}}]}, ""),
    ],
)
def test_it_tells_why_a_pod_waits(status: dict[str, Any], reason: str) -> None:
    assert PodLog(Server(pod("first", **status)), "job").waiting() == reason
