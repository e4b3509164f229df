"""What the tests of the retraining pipeline share: a small laboratory, and a run in a process that can be killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.batches.ledger import Ledger
from components.batches.record import BatchRecord
from components.registry.auditing import read_audit
from components.registry.versions import Alias, Registry
from components.settings import Settings, load_settings
from components.storage import open_store
from pipelines.cli.run import merge
from tests.servers import free_ports

from .conftest import NO_FLOORS, SMALL, Done, environment

LINEAGE = "line"
MODEL = "confluence-single-stack"

# The least that is still the whole path, and a gate that lets everything pass but what it is told to refuse.
SETTINGS: dict[str, Any] = {
    "data": {"ref": LINEAGE},
    "training": {"backbone": "shufflenet_v2", "weights": "none", "image_size": 32, "epochs": 2},
    "search": {"trials": 2, "epochs": 1},
    "screening": {"margin": 1.0},
    "watch": {"lease": 600, "attempts": 99},
    "gate": {
        "min_accuracy": 0,
        "min_within_one_class": 0,
        "max_missed_overgrowth": 1,
        "min_class_recall": 0,
        "max_calibration_error": 1,
        "beat_majority": False,
        "margin": 1,
        "slice_margin": 1,
        "max_loss": 1,
        "max_slowdown": 1000,
        "max_latency": 100,
    },
}

_RUN = """
import json, sys
from components.settings import load_settings
from components.errors import MscflowError
from pipelines.local import run_retrain_pipeline
given = json.loads(sys.argv[1])
try:
    done = run_retrain_pipeline(load_settings(**given["settings"]), *given["arguments"], lambda event: None)
except MscflowError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
print(json.dumps({"results": done.results, "cached": done.cached, "seconds": done.seconds, "run": str(done.folder)}))
"""


class Laboratory:
    """A folder with a home in it, whose batches are retrained on.

    Args:
        folder: Of the home ``home``.
        ports: Of the endpoint, REST and gRPC.
        changes: Settings on top of ``SETTINGS``.
    """

    def __init__(self, folder: Path, ports: tuple[int, int], **changes: Any) -> None:
        serving = {"port": ports[0], "grpc_port": ports[1]}
        self.folder, self.home = folder, folder / "home"
        self.given = merge({**SETTINGS, "home": str(self.home), "serving": serving}, changes)

    @property
    def settings(self) -> Settings:
        """As a run has them."""
        return load_settings(**self.given)

    def start(self, batch: Path, owner: str = "operator-1", **variables: str) -> "subprocess.Popen[str]":
        """Start a run on one batch, in a session of its own, so that it can be killed with all its steps."""
        arguments = ["", str(batch), LINEAGE, owner]
        return subprocess.Popen(
            [sys.executable, "-c", _RUN, json.dumps({"settings": self.given, "arguments": arguments})],
            cwd=self.folder,
            env={**environment(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, batch: Path, owner: str = "operator-1", **variables: str) -> Done:
        """Run on one batch to the end."""
        with self.start(batch, owner, **variables) as going:
            out, complaint = going.communicate(timeout=280)
        return Done(going.returncode, out, complaint)

    def records(self) -> list[BatchRecord]:
        """What the ledger knows."""
        return Ledger(open_store(self.settings.store_uri), LINEAGE).records()

    def audit(self) -> dict[str, Any]:
        """The audit log, verified against the registry."""
        return read_audit(self.settings.store_uri, self.settings.mlflow_uri)

    def actions(self) -> list[str]:
        """What the audit log tells of, in order."""
        return [entry["action"] for entry in self.audit()["entries"]]

    def check_whole(self) -> None:
        """Check what must hold whatever was killed: one champion, its bundle intact, and a log that nobody altered."""
        registry = Registry(self.settings.mlflow_uri, self.home)
        versions = registry.versions(MODEL)
        assert sum(Alias.CHAMPION in version.aliases for version in versions) == 1
        registry.download(MODEL, Alias.CHAMPION, self.home / "models")
        assert self.audit()["sound"], self.audit()["faults"]


def prepare(
    folder: Path, mscflow: Callable[..., Done], batches: int, variables: Mapping[str, str] = {}, **changes: Any
) -> Laboratory:
    """Make a laboratory with a champion that an endpoint serves, and complete batches ``b1``, ``b2``, ... to come."""
    rest, grpc = free_ports(2)
    upload(folder, "cultures", mscflow, images=60)
    for number in range(1, batches + 1):
        upload(folder, f"b{number}", mscflow, images=24, seed=number)
    command = ["--home", "home", "run", "--data", "cultures", "--ref", LINEAGE, "--port", rest, "--grpc-port", grpc]
    floors = ("--set", "gate.min_class_recall=0", "--set", "gate.max_calibration_error=1")
    done = mscflow(*command, *SMALL, *NO_FLOORS, *floors, cwd=folder, **variables)
    assert done.code == 0, done.err
    return Laboratory(folder, (rest, grpc), **changes)


def upload(folder: Path, name: str, mscflow: Callable[..., Done], *, images: int, seed: int = 0) -> Path:
    """Simulate a complete batch."""
    given = ("--images", images, "--size", 64, "--seed", seed)
    assert mscflow("data", "simulate", name, *given, cwd=folder).code == 0
    (folder / name / "_COMPLETE").touch()
    return folder / name


def kill(going: "subprocess.Popen[str]") -> None:
    """Kill a run and its step in work at once, as a power cut would; the endpoint has a session of its own."""
    os.killpg(going.pid, signal.SIGKILL)
    going.communicate(timeout=60)


def wait_for(home: Path, known: set[Path], event: str, step: str) -> None:
    """Wait until a run that is not among the known ones tells an event of a step."""
    deadline = time.monotonic() + 200
    told = (f'"event": "{event}"', f'"step": "{step}"')
    while time.monotonic() < deadline:
        for file in (folder / "events.jsonl" for folder in set((home / "runs").iterdir()) - known):
            if file.exists() and any(all(part in line for part in told) for line in file.read_text().splitlines()):
                return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not {event} in {home}")
