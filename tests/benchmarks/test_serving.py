"""The benchmark of the endpoint runs as its reader would run it, on a tiny model for a moment."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving.py"
MOMENT = ("--rounds", "2", "--seconds", "0.3", "--clients", "3", "--side", "64")


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., str]) -> Callable[..., list[dict]]:
    """Runs a part of the benchmark on a tiny model and gives its rows."""
    folder = tmp_path_factory.mktemp("benchmark")
    make_bundle(folder / "tiny")

    def run(part: str, *options: str) -> list[dict]:
        given = ["--bundle", str(folder / "tiny"), "--cache", str(folder / "cache"), "--json", *MOMENT, *options]
        done = subprocess.run([sys.executable, SCRIPT, part, *given], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(" s  "), "progress is told on standard error"
        return json.loads(done.stdout)[part]["tiny"]

    return run


def test_the_endpoint_is_held_against_the_bare_loop_in_the_same_rounds(measure: Callable[..., list[dict]]) -> None:
    rows = measure("limit")
    assert [row["figure"].split(",")[0] for row in rows] == [
        "p50 of one client",
        "p50 of one client",
        "answers a second",
        "answers a processor second of their own",
    ]
    for row in rows:
        assert row["bare"] > 0
        assert row["endpoint"] > 0
        assert row["from"] <= row["ratio"] <= row["to"]


def test_memory_is_followed_to_the_number_of_requests_asked_for(measure: Callable[..., list[dict]]) -> None:
    rows = measure("memory", "--requests", "60")
    assert rows[0]["requests"] == 0
    assert rows[-1]["requests"] >= 60
    assert all(row["MB"] > 10 for row in rows)


def test_a_server_that_cannot_start_ends_the_benchmark_with_its_log(
    tmp_path: Path, make_bundle: Callable[..., str]
) -> None:
    make_bundle(tmp_path / "tiny")
    given = ["--bundle", str(tmp_path / "tiny"), "--cache", str(tmp_path / "cache"), "--side", "64"]
    command = [sys.executable, SCRIPT, "memory", *given, "--set", "--threads", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--threads 0" in done.stderr
