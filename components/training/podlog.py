"""The log of a TrainJob's first pod: its events are this step's, and what else it says is passed on."""

import json
import re
import sys
import time
from typing import Any

from components.apiserver import ApiServer
from components.errors import ClusterError
from components.events import emit
from components.training.trainjob import NODE

_JOB_SET, _JOB, _INDEX = (
    "jobset.sigs.k8s.io/jobset-name",
    "jobset.sigs.k8s.io/replicatedjob-name",
    "batch.kubernetes.io/job-completion-index",
)
_PASSED_ON = {"progress", "note"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_OVERLAP = 60  # seconds that are read once more, as the clocks of machines differ


class PodLog:
    """What the first pod writes, and why pods wait; where logs may not be read, that is said once.

    Attributes:
        last: The last line that was no event, or the message of an error.
    """

    def __init__(self, server: ApiServer, name: str) -> None:
        self.last = ""
        self._server, self._name, self._readable = server, name, True
        self._pod, self._seen, self._looked = "", "", time.monotonic()

    def pass_on(self) -> None:
        """Pass on what was written since the last time."""
        for line in self._new_lines():
            self._pass(line)

    def waiting(self) -> str:
        """Tell why pods do not run; empty where it is not known."""
        for pod in self._pods():
            status = pod.get("status", {})
            for condition in status.get("conditions") or ():
                if condition["type"] == "PodScheduled" and condition["status"] == "False":
                    return str(condition.get("message", ""))
            for container in status.get("containerStatuses") or ():
                waits = container.get("state", {}).get("waiting") or {}
                if waits:
                    return " ".join(filter(None, (waits.get("reason"), waits.get("message"))))
        return ""

    def _new_lines(self) -> list[str]:
        pod = self._first()
        if pod is None:
            return []
        name, since = pod["metadata"]["name"], time.monotonic() - self._looked
        if name != self._pod:
            self._pod, self._seen, since = name, "", float("inf")
        self._looked = time.monotonic()
        seconds = None if since == float("inf") else int(since) + _OVERLAP
        lines = []
        # By line feeds alone, as the bars that some libraries draw hold carriage returns.
        for line in self._read(name, seconds).split("\n"):
            when, _, text = line.partition(" ")
            # What has no time is the node's word on a log that it cannot give, or a line that was cut.
            if _TIME.fullmatch(when) and _sortable(when) > self._seen:
                self._seen = _sortable(when)
                lines.append(text)
        return lines

    def _pass(self, line: str) -> None:
        event = _event(line)
        if event is None:
            self.last = line.strip() or self.last
            sys.stderr.write(f"[{self._pod}] {line}\n")
            return
        kind = event.pop("event")
        event.pop("time", None)
        if kind in _PASSED_ON:
            emit(kind, **event)
        elif kind == "error":
            self.last = str(event.get("message", ""))

    def _first(self) -> dict[str, Any] | None:
        mine = [pod for pod in self._pods() if _index(pod) == "0" and "deletionTimestamp" not in pod["metadata"]]
        return max(mine, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)

    def _pods(self) -> list[dict[str, Any]]:
        return self._allowed(lambda: self._server.pods(f"{_JOB_SET}={self._name},{_JOB}={NODE}")) or []

    def _read(self, pod: str, seconds: int | None) -> str:
        return self._allowed(lambda: self._server.log(pod, NODE, seconds)) or ""

    def _allowed(self, call: Any) -> Any:
        if not self._readable:
            return None
        try:
            return call()
        except ClusterError as error:
            self._readable = False
            emit("note", message=f"the pods' logs are not shown, the training goes on: {error}")
            return None


def _index(pod: dict[str, Any]) -> str | None:
    metadata = pod["metadata"]
    told = {**(metadata.get("annotations") or {}), **(metadata.get("labels") or {})}.get(_INDEX)
    return None if told is None else str(told)


def _sortable(when: str) -> str:
    """Write a time with all digits of its fraction, some of which Kubernetes leaves out."""
    whole, _, fraction = when.rstrip("Z").partition(".")
    return f"{whole}.{fraction:0<9}"


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line) if line.startswith('{"event"') else None
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
