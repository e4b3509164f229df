"""What a running step tells the outside: progress, its result, its failure.

A step runs in a process of its own, whose standard output kfp owns. So that a person at a terminal
still sees progress, and the command line the real error and figures, each step appends JSON lines to
the file named by ``MSCFLOW_EVENTS``, where ``-`` is standard error. Without that variable (on a cluster)
the same news goes to standard error as plain lines.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from components.errors import MscflowError
from components.failure import Failure, forget_word, leave_word
from components.lifeline import end_with_runner

EVENTS_VARIABLE = "MSCFLOW_EVENTS"
STANDARD_ERROR = "-"

Observer = Callable[[dict[str, Any]], None]
_observers: list[Observer] = []


@contextmanager
def observed(observe: Observer) -> Iterator[None]:
    """Give this process's own events to ``observe`` instead of writing them, as the command line does."""
    _observers.append(observe)
    try:
        yield
    finally:
        _observers.remove(observe)


def emit(event: str, **fields: Any) -> None:
    """Append one event; losing one (a full disk) must never fail the step that reports it."""
    if _observers:
        _observers[-1]({"event": event, **fields})
        return
    path = os.environ.get(EVENTS_VARIABLE)
    if path is None:
        text = " ".join(f"{key}={value}" for key, value in fields.items() if value is not None)
        sys.stderr.write(f"[{event}] {text}\n")
        return
    line = json.dumps({"event": event, "time": time.time(), **fields}, default=str) + "\n"
    if path == STANDARD_ERROR:
        sys.stderr.write(line)
        return
    try:
        # One write of one line to a file opened for appending does not interleave with others.
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line)
    except OSError:
        return


def as_text(result: dict[str, Any]) -> str:
    """Give a step's result as its output: as JSON text, since KFP knows no null and makes floats of whole numbers."""
    return json.dumps(result, default=str)


class Progress:
    """Counts work done and emits it at most about four times a second."""

    def __init__(self, task: str, total: int | None, unit: str) -> None:
        self.task, self.total, self.unit, self.done = task, total, unit, 0
        self._last = 0.0
        self._emit(None)

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """Count ``amount`` more units as done; ``note`` is shown beside the bar."""
        self.done += amount
        if self.done == self.total or time.monotonic() - self._last > 0.25:
            self._emit(note)

    def _emit(self, note: str | None) -> None:
        self._last = time.monotonic()
        emit("progress", task=self.task, done=self.done, total=self.total, unit=self.unit, note=note)


@contextmanager
def step(name: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Report the start, end, result and failure of one pipeline step.

    Yields:
        A function that takes the step's result (JSON-able) to be reported at the end.

    Raises:
        SystemExit: instead of a ``MscflowError``, which has then been reported as an event, so that
            the process's output ends with one clear line and no traceback.
    """
    started = time.perf_counter()
    if path := os.environ.get(EVENTS_VARIABLE):
        end_with_runner(Path(path))
    result: dict[str, Any] = {}
    emit("started", step=name)
    try:
        yield result.update
    except MscflowError as error:
        _fail(Failure(step=name, message=str(error), error=type(error).__name__, exit_code=error.exit_code))
        raise SystemExit(f"{name}: {error}") from error
    except Exception as error:
        _fail(Failure(step=name, message=f"{type(error).__name__}: {error}", error="bug", exit_code=1))
        raise
    forget_word(name)
    emit("finished", step=name, seconds=round(time.perf_counter() - started, 3), result=result)


def _fail(failure: Failure) -> None:
    emit("failed", **asdict(failure))
    leave_word(failure)
