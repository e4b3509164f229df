"""Following a run on Kubeflow Pipelines to its end, step by step."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from components.errors import MscflowError
from components.events import Observer
from pipelines.kubeflow.connection import Connection, Json
from pipelines.kubeflow.running import look

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
_EVENTS = {"RUNNING": "started", "SUCCEEDED": "finished", "FAILED": "failed"}


class RunFailed(MscflowError):
    """A run on Kubeflow Pipelines ended otherwise than by success; its exit code is the failed step's, if known."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Task:
    """One task of a run; a step in a loop has several.

    Attributes:
        step: Its name in the pipeline.
        state: The API's word.
        seconds: That it took, once it ended.
        error: Why it failed, as far as the API tells.
    """

    step: str
    state: str
    seconds: float | None = None
    error: str = ""


@dataclass
class Ended:
    """A run that is over.

    Attributes:
        state: SUCCEEDED, FAILED, CANCELED or SKIPPED.
        error: Why, as far as the API tells.
        tasks: In the order in which they began.
        seconds: From the run's creation to its end.
    """

    state: str
    error: str
    tasks: list[Task] = field(default_factory=list)
    seconds: float | None = None

    def ran(self, step: str) -> bool:
        """Whether a step was there and was not passed over."""
        return any(task.step == step and task.state != "SKIPPED" for task in self.tasks)

    def sentence(self) -> str:
        """Say how the run ended."""
        failed = [task for task in self.tasks if task.state == "FAILED"]
        if self.state == "FAILED" and failed:
            why = failed[0].error or self.error
            return f"step '{failed[0].step}' failed" + (f": {why}" if why else "")
        words = {"SUCCEEDED": "it succeeded", "CANCELED": "it was cancelled", "SKIPPED": "it was passed over"}
        return words.get(self.state, "it failed") + (f": {self.error}" if self.error else "")


def follow(connection: Connection, run_id: str, steps: Iterable[str], observe: Observer) -> Ended:
    """Look at a run until it is over; the API may be away meanwhile.

    Args:
        connection: To the API.
        run_id: Of the run.
        steps: Tasks that are told of; KFP has others, for its own ends.
        observe: Called with events as a run on this machine has them: ``started``, ``finished``, ``failed``.

    Raises:
        NotThere: if there is no such run, or it was deleted.
        InputError: if the API refuses, or stays away.
    """
    known, told = frozenset(steps), set[tuple[str, str]]()
    while True:
        run = look(connection, run_id)
        tasks = _tasks(run, known)
        for identity, task in tasks.items():
            _tell(identity, task, told, observe)
        state = run.get("state", "")
        if state in ENDED:
            return Ended(state, _error(run), list(tasks.values()), _seconds(run, "created_at", "finished_at"))
        time.sleep(connection.settings.interval)


def _tasks(run: Json, known: frozenset[str]) -> dict[str, Task]:
    details = (run.get("run_details") or {}).get("task_details") or []
    details = sorted(details, key=lambda each: each.get("start_time") or "9")  # what has not begun comes last
    found = {}
    for detail in details:
        # A second task of one component is named conclude-2.
        step = re.sub(r"-\d+$", "", detail.get("display_name") or "")
        if step in known:
            seconds = _seconds(detail, "start_time", "end_time")
            found[detail["task_id"]] = Task(step, detail.get("state", ""), seconds, _error(detail))
    return found


def _tell(identity: str, task: Task, told: set[tuple[str, str]], observe: Observer) -> None:
    event = _EVENTS.get(task.state)
    if event is None or (identity, event) in told:
        return
    told.add((identity, event))
    observe({"event": event, "step": task.step, "seconds": task.seconds or 0.0, "result": {}})


def _error(described: Json) -> str:
    return " ".join(str((described.get("error") or {}).get("message") or "").split())


def _seconds(described: Json, begin: str, end: str) -> float | None:
    try:
        began, ended = (_time(described[key]) for key in (begin, end))
    except (KeyError, TypeError, ValueError):
        return None
    # The API says 1970 for what has not come yet.
    return (ended - began).total_seconds() if ended >= began else None


def _time(value: Any) -> datetime:
    return datetime.fromisoformat(value)
