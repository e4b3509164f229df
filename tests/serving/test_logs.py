"""Lines of the log, and how a flood of them is held back."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import logs
from serving.logs import Throttle, configure


@pytest.fixture
def _loggers_as_before() -> Iterator[None]:
    names = (None, "mscflow", "kserve", "uvicorn")
    before = [(logging.getLogger(name), list(logging.getLogger(name).handlers)) for name in names]
    levels = [(logger, logger.level, logger.propagate) for logger, _ in before]
    yield
    logging.getLogger("mscflow").parent.handlers[0].close()
    for logger, handlers in before:
        logger.handlers = handlers
    for logger, level, propagate in levels:
        logger.level, logger.propagate = level, propagate


@pytest.mark.usefixtures("_loggers_as_before")
def test_a_line_is_an_object_with_its_fields_and_traceback(tmp_path: Path) -> None:
    configure(tmp_path / "server.log")
    log = logging.getLogger("mscflow.request")
    log.info("answered", extra={"fields": {"request": "7\n", "model": "m"}})
    log.error("request %s failed", "8", exc_info=ValueError("no such thing"))
    first, second = [json.loads(line) for line in (tmp_path / "server.log").read_text().splitlines()]
    assert first.items() >= {"level": "info", "message": "answered", "request": "7\n", "model": "m"}.items()
    assert first["time"].endswith("+00:00")
    assert (second["message"], second["level"]) == ("request 8 failed", "error")
    assert "ValueError: no such thing" in second["traceback"]


def test_a_flood_is_thinned_to_a_burst_and_a_trickle_that_says_how_many_it_stands_for() -> None:
    now = [0.0]
    throttle = Throttle(burst=3, rate=1.0, clock=lambda: now[0])
    assert [throttle.admit("overloaded") for _ in range(5)] == [0, 0, 0, None, None]
    assert throttle.admit("too_large") == 0, "another reason is not held back"
    now[0] = 1.0
    assert [throttle.admit("overloaded") for _ in range(3)] == [2, None, None]
    now[0] = 100.0
    assert [throttle.admit("overloaded") for _ in range(4)] == [2, 0, 0, None]


@pytest.mark.usefixtures("_loggers_as_before")
def test_files_are_rotated_and_the_oldest_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 1000)
    configure(tmp_path / "server.log")
    for index in range(100):
        logging.getLogger("mscflow.request").info("answered", extra={"fields": {"index": index, "path": Path("a")}})
    files = {path.name: path.read_text().splitlines() for path in tmp_path.iterdir()}
    assert sorted(files) == ["server.log", *(f"server.log.{number}" for number in range(1, logs.FILES_KEPT + 1))]
    assert max(len("\n".join(lines)) for lines in files.values()) < 1300
    kept = [json.loads(line)["index"] for name in sorted(files, reverse=True) for line in files[name]]
    assert kept == list(range(100 - len(kept), 100))
