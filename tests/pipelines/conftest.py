import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_ports

MSCFLOW = Path(sys.executable).with_name("mscflow")

# The least that is still the whole path.
SMALL = [
    *("--backbone", "shufflenet_v2", "--weights", "none"),
    *("--set", "training.image_size=32", "--set", "training.epochs=2"),
    *("--set", "search.trials=2", "--set", "search.epochs=1"),
]
NO_FLOORS = [
    *("--set", "gate.min_accuracy=0", "--set", "gate.min_within_one_class=0"),
    *("--set", "gate.max_missed_overgrowth=1", "--set", "gate.beat_majority=false", "--set", "gate.margin=1"),
    *("--set", "gate.min_class_recall=0", "--set", "gate.max_calibration_error=1", "--set", "gate.slice_margin=1"),
]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment() -> dict[str, str]:
    """That of a user who has set nothing."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("MSCFLOW_", "MLFLOW_"))}
    return {**ours, "COLUMNS": "200"}


@pytest.fixture(scope="session")
def mscflow() -> Callable[..., Done]:
    """Runs the command as a user does, in a folder of the test's own."""

    def run(*arguments: object, cwd: Path, timeout: float = 280, **variables: str) -> Done:
        done = subprocess.run(
            [MSCFLOW, *map(str, arguments)],
            cwd=cwd,
            env={**environment(), **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, mscflow: Callable[..., Done]) -> Iterator[Path]:
    """A folder with 60 simulated images in ``cultures``; an endpoint that its runs leave serving is stopped."""
    folder = tmp_path_factory.mktemp("lab")
    assert mscflow("data", "simulate", "cultures", "--images", 60, "--size", 64, cwd=folder).code == 0
    yield folder
    mscflow("serve", "--stop", cwd=folder)


@pytest.fixture(scope="module")
def ports() -> list[str]:
    """Options that put the endpoint on ports which nobody uses."""
    rest, grpc = free_ports(2)
    return ["--port", str(rest), "--grpc-port", str(grpc)]


def wait_for_step(home: Path, step: str, known: set[Path]) -> None:
    """Wait until a run that is not among the known ones begins a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for events in (folder / "events.jsonl" for folder in runs_in(home) - known):
            if events.exists() and f'"step": "{step}"' in events.read_text():
                return
        time.sleep(0.01)
    raise AssertionError(f"step {step} did not start in {home}")


def runs_in(home: Path) -> set[Path]:
    """Give the folders of the runs that a home has seen."""
    runs = home / "runs"
    return set(runs.iterdir()) if runs.is_dir() else set()


def steps_at_work(place: Path) -> list[str]:
    """Give the command lines of step processes that run in a place."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            cwd = str((process / "cwd").readlink())
        except OSError:
            continue
        if cwd == str(place) and "kfp.dsl.executor_main" in command:
            found.append(command)
    return found
