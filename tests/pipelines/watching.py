"""A watcher in a process of its own, whose runs do what the pipeline does around its work: claim, work, conclude."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from components.batches.ledger import Ledger
from components.storage import open_store

from .conftest import environment

LINEAGE = "clinic"

_WATCH = """
import json, signal, sys, time
from pathlib import Path
from components.batches import steps
from components.settings import WatchSettings, load_settings
from pipelines.local import PipelineRun, StepFailed
from pipelines.watch import Watcher, Work, retrain

given = json.loads(sys.argv[1])

def tell(event):
    print(json.dumps(event), flush=True)

def run(settings, watched, batch, lineage, owner, observe):
    done, about = PipelineRun(Path("run")), (settings.store_uri, lineage)
    polled = steps.poll(watched, None, *about, settings.home, owner, settings.watch.lease, settings.watch.attempts)
    observe({"event": "finished", "step": "poll", "result": polled})
    done.results["poll"] = polled
    if polled["found"]:
        tell({"event": "working", "batch": polled["batch"], "time": time.time()})
        time.sleep(given["work"])
        tell({"event": "worked", "batch": polled["batch"], "time": time.time()})
        if given["fails"]:
            failed = {"ended": "failed", "reasons": ["out of order"], "exit_code": 1}
            steps.conclude(*about, polled["id"], owner, failed, "out of order")
            raise StepFailed("out of order", 1)
        done.results["conclude"] = {"ended": "refused", "reasons": []}
        steps.conclude(*about, polled["id"], owner, done.results["conclude"], None)
    return done

# Shorter than a person may set it, so that nobody waits for long.
watch = WatchSettings.model_construct(interval=0.05, lease=given["lease"], attempts=3)
settings = load_settings(home=given["home"], store=given["store"]).model_copy(update={"watch": watch})
work = Work(settings, "clinic", given["watched"], "", given["owner"])
signal.signal(signal.SIGTERM, signal.default_int_handler)
Watcher(work, tell, lambda work: retrain(work, lambda event: None, run)).forever()
"""


class WatcherProcess:
    """A watcher of a place, which tells its events.

    Args:
        place: Folder that holds its home, and the watched folder and the store where they are not given.
        owner: As whom it works.
        work: Seconds that a run takes.
        lease: In seconds.
        fails: Whether its runs fail.
        places: ``watched`` and ``store``, where they are elsewhere.
    """

    def __init__(
        self, place: Path, owner: str, *, work: float = 0.0, lease: float = 1.0, fails: bool = False, **places: str
    ) -> None:
        where = {"watched": str(place / "watched"), "store": str(place / "store"), **places}
        given = {**where, "home": str(place / f"home of {owner}"), "owner": owner}
        given |= {"work": work, "lease": lease, "fails": fails}
        self.events: list[dict[str, Any]] = []
        self._rest = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WATCH, json.dumps(given)],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def wait_for(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait for the next event of a kind."""
        while True:
            told = self._next()
            if told["event"] == event and fields.items() <= told.items():
                return told

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGKILL) -> str:
        """Send it a signal that it dies of, read the rest of its events, and give what it complained about."""
        self.send(number)
        out, complaint = self.process.communicate(timeout=30)
        self.events += [json.loads(line) for line in (self._rest + out).splitlines()]
        return complaint.decode()

    def _next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        deadline = time.monotonic() + 60
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            if not chunk:
                _, complaint = self.process.communicate(timeout=10) if ready else (b"", b"nothing in a minute")
                raise AssertionError(f"the watcher told {self.events}, and then: {complaint.decode()}")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        event: dict[str, Any] = json.loads(line)
        self.events.append(event)
        return event


def ledger(store: str | Path) -> Ledger:
    """Open the ledger of the lineage."""
    return Ledger(open_store(store), LINEAGE)


def upload(watched: str | Path, name: str, images: int = 2, *, whole: bool = True) -> None:
    """Upload a batch as a scanner does: images first, and its marker when it is whole."""
    store = open_store(watched)
    for number in range(images):
        store.write(f"{name}/{number}.png", f"{name} {number}".encode())
    if whole:
        store.write(f"{name}/batch.json", json.dumps({"count": images}).encode())


def wait_until_done(store: str | Path, batches: int) -> None:
    """Wait until so many batches are done."""
    deadline = time.monotonic() + 60
    while sum(record.state == "done" for record in ledger(store).records()) < batches:
        assert time.monotonic() < deadline, ledger(store).records()
        time.sleep(0.05)
