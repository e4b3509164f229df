import json
from pathlib import Path

import pytest

from components.errors import DataError
from components.events import EVENTS_VARIABLE, STANDARD_ERROR, Progress, emit, observed, step


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv(EVENTS_VARIABLE, str(path))
    return path


def read(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_step_reports_its_start_result_and_end(events: Path) -> None:
    with step("split") as report:
        report({"split_id": "abc"})
    started, finished = read(events)
    assert (started["event"], started["step"]) == ("started", "split")
    assert finished["result"] == {"split_id": "abc"}
    assert isinstance(finished["seconds"], float)


def test_a_deliberate_error_leaves_as_one_line_and_an_event(events: Path) -> None:
    with pytest.raises(SystemExit, match="validate: no images"), step("validate"):
        raise DataError("no images")
    assert read(events)[-1] | {"time": 0} == {
        "event": "failed",
        "time": 0,
        "step": "validate",
        "message": "no images",
        "error": "DataError",
        "exit_code": 2,
    }


def test_a_bug_is_reported_and_raised(events: Path) -> None:
    with pytest.raises(ZeroDivisionError), step("train"):
        _ = 1 / 0
    assert read(events)[-1]["error"] == "bug"


def test_progress_always_tells_of_the_first_and_the_last_unit(events: Path) -> None:
    progress = Progress("decoding", total=500, unit="images")
    for _ in range(500):
        progress.advance()
    said = [event["done"] for event in read(events)]
    assert said[0] == 0
    assert said[-1] == 500
    assert len(said) < 100, "a fast loop must not write an event for each unit"


def test_a_full_disk_does_not_fail_the_step_that_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EVENTS_VARIABLE, "/dev/full")
    emit("progress", done=1)


def test_without_a_file_the_news_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(EVENTS_VARIABLE, raising=False)
    emit("progress", task="search", done=3)
    assert capsys.readouterr().err == "[progress] task=search done=3\n"


def test_a_pod_writes_events_where_its_log_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(EVENTS_VARIABLE, STANDARD_ERROR)
    emit("progress", task="train", done=3)
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["task"], event["done"]) == ("progress", "train", 3)


def test_an_observer_in_the_process_sees_events_instead_of_the_file(events: Path) -> None:
    seen: list[dict[str, object]] = []
    with observed(seen.append):
        emit("progress", task="search", done=3)
    emit("progress", task="search", done=4)
    assert seen == [{"event": "progress", "task": "search", "done": 3}]
    assert [event["done"] for event in read(events)] == [4]
