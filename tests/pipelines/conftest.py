import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MSCFLOW = Path(sys.executable).with_name("mscflow")


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
