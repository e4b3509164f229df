"""`mscflow serve` as a user gives it, over a registry with one champion."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.registry.versions import Alias, Registry
from components.settings import sqlite_uri
from tests.servers import free_ports

from .conftest import MSCFLOW, environment

MODEL = "confluence-single-stack"
AGAIN = "stop it with 'mscflow serve --stop'"


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., str]) -> Path:
    """A folder whose home has a champion."""
    folder = tmp_path_factory.mktemp("lab")
    home = folder / ".mscflow"
    home.mkdir()
    make_bundle(folder / "trained", favour=2)
    registry = Registry(sqlite_uri(home / "mlflow.db"), home)
    registry.set_alias(registry.register(folder / "trained").version, Alias.CHAMPION)
    return folder


@pytest.fixture(scope="module")
def said(laboratory: Path) -> Iterator[list[str]]:
    """What the command says until all is told; it serves until the tests end."""
    rest, grpc = free_ports(2)
    command = [MSCFLOW, "serve", "--port", str(rest), "--grpc-port", str(grpc)]
    process = subprocess.Popen(
        command,
        cwd=laboratory,
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if line.startswith("try: "):
            break
    yield lines
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the group
    assert process.wait(60) == 0
    process.stdout.close()


def test_it_tells_where_it_listens_what_serves_and_what_is_missing(said: list[str]) -> None:
    assert said[0].startswith("listening on http://127.0.0.1:")
    rows = [line.split() for line in said]
    assert [MODEL, "ready", "1"] in rows
    assert ["culture", "ready", "single_stack:", "confluence"] in rows
    told = "\n".join(said)
    assert "not deployed: abnormal-cells; 'mscflow run --task abnormal_cells --data FOLDER' makes" in told
    assert "not deployed: confluence-multi-stack; 'mscflow run --modality multi_stack --data FOLDER' makes" in told


def test_what_it_says_to_try_works(said: list[str], laboratory: Path, png: Callable[..., bytes], mscflow: Any) -> None:
    (laboratory / "IMAGE").write_bytes(png())
    _, _, *arguments = said[-1].partition(",")[0].split()
    done = mscflow(*arguments, "--json", cwd=laboratory)
    assert done.code == 0, done.err
    (row,) = mscflow("predict", "IMAGE", "--json", cwd=laboratory).json  # finds the endpoint of this home by itself
    assert (row["class"], row["abnormal_cells"]) == (2, None)


def test_its_status_can_be_asked_for(said: list[str], laboratory: Path, mscflow: Any) -> None:
    status = mscflow("serve", "--status", "--json", cwd=laboratory).json
    assert (status["ready"], status["culture"]) == (True, {"single_stack": "confluence"})
    assert set(status["missing"]) == {"confluence-multi-stack", "abnormal-cells"}
    assert status["models"][0]["name"] == MODEL
    shown = mscflow("serve", "--status", cwd=laboratory)
    assert said[1:] == [line.strip() for line in shown.out.splitlines()]


def test_a_second_one_is_refused(said: list[str], laboratory: Path, mscflow: Any) -> None:
    done = mscflow("serve", cwd=laboratory)
    assert done.code == 2
    assert AGAIN in done.err


def test_where_none_runs_it_says_how_to_start_one(tmp_path: Path, mscflow: Any) -> None:
    done = mscflow("serve", "--status", cwd=tmp_path)
    assert (done.code, done.out) == (0, "no endpoint of this home runs; 'mscflow serve' starts one\n")
