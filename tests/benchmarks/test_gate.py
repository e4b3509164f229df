"""The simulation of challengers runs as its reader would run it, on few of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gate.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict:
    file = tmp_path_factory.mktemp("gate") / "found.json"
    few = ["--challengers", "5", "--years", "2", "--vessels", "24", "--json", str(file)]
    done = subprocess.run([sys.executable, SCRIPT, *few], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 24 | 96 | +0.0 |" in done.stdout
    return json.loads(file.read_text())


def test_every_rule_judges_the_same_challengers(found: dict) -> None:
    rows = found["difference"]
    assert [row["difference"] for row in rows] == [-0.10, -0.05, -0.02, 0.0, 0.02, 0.05, 0.10]
    for row in rows:
        assert [row[rule][1] for rule in ("gate", "over images", "point estimate", "always release")] == [5] * 4
        assert row["always release"][0] == 5
        assert row["gate"][0] <= row["point estimate"][0]  # the gate asks for that, and for more


def test_the_far_worse_are_refused_and_the_far_better_released(found: dict) -> None:
    first, last = found["difference"][0], found["difference"][-1]
    assert (first["gate"][0], last["gate"][0]) == (0, 5)
    shuffled = next(row for row in found["harm"] if "shuffled" in row["harm"])
    assert shuffled["gate"][0] == 0


def test_the_summary_counts_what_the_table_shows(found: dict) -> None:
    worse = [row["gate"] for row in found["difference"] if row["difference"] < 0]
    better = [row["gate"] for row in found["difference"] if row["difference"] > 0]
    summary = next(row for row in found["summary"] if row["rule"] == "gate")
    assert summary["worse let through"] == [sum(each[0] for each in worse), 15]
    assert summary["better refused"] == [15 - sum(each[0] for each in better), 15]
