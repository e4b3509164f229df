"""``python -m pipelines.study.worker``: a process that makes folds, one after the other.

Each line of its standard input is a ``Job`` as JSON; each line of its standard output is an event. When
the input ends it ends too, at once: a study that was killed leaves nobody behind.
"""

import json
import os
import queue
import signal
import sys
import threading
from typing import Any, TextIO

import msgspec

from components.errors import MscflowError
from components.events import observed
from components.training.threads import wait_briefly


def main() -> None:
    """Make the folds that standard input asks for."""
    # Ctrl-C reaches every process of a terminal; the study, not the worker, decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    events = _own_output()
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    wait_briefly()
    while True:
        _work(jobs.get(), events)


def _own_output() -> TextIO:
    """Keep standard output for events; whatever libraries print goes to standard error."""
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return events


def _listen(jobs: "queue.SimpleQueue[bytes]") -> None:
    for line in sys.stdin.buffer:
        jobs.put(line)
    os._exit(0)


def _work(line: bytes, events: TextIO) -> None:
    from pipelines.study.fold import run_fold
    from pipelines.study.job import Job

    job = msgspec.json.decode(line, type=Job)

    def say(event: str, **fields: Any) -> None:
        events.write(json.dumps({"event": event, "key": job.unit.key, **fields}) + "\n")

    def observe(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["task"] == "search":
            say("trial", done=event["done"], total=event["total"])

    say("begun")
    try:
        with observed(observe):
            run_fold(job, lambda epoch, seconds, figure: say("epoch", epoch=epoch, seconds=seconds, figure=figure))
    except MscflowError as error:
        say("failed", error=type(error).__name__, message=str(error), exit_code=error.exit_code)
    else:
        say("done")


if __name__ == "__main__":
    main()
