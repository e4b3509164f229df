"""The year in fast motion runs as its reader would run it, small, and goes on where it stopped."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "lifecycle.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("year")


def live(home: Path, batches: int) -> dict:
    file = home / "result.json"
    given = ["--quick", "--batches", str(batches), "--home", str(home / "home"), "--json", str(file)]
    done = subprocess.run([sys.executable, SCRIPT, *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "right answers, %" in done.stdout
    return json.loads(file.read_text())


@pytest.mark.slow
def test_a_short_year_is_lived_in_three_ways_and_goes_on_where_it_stopped(home: Path) -> None:
    before = live(home, 0)["ways"]
    ways = live(home, 1)["ways"]
    assert {way: rows[:1] for way, rows in ways.items()} == before
    assert set(ways) == {"product", "never", "always"}
    assert all([row["kind"] for row in rows] == ["first", "usual"] for rows in ways.values())
    assert {row["frozen"] for row in ways["never"]} == {ways["product"][0]["frozen"]}
    assert ways["always"][1]["released"]
    with Image.open(home / "home" / "lifecycle.png") as picture:
        assert min(picture.size) > 500


def test_a_year_has_every_kind_of_batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    from life.year import OTHER, Scale, draw_batch, truth_of, year

    batches = year()
    assert len(batches) >= 12
    assert {batch.kind for batch in batches} == {"usual", "mislabelled", "duplicate", "microscope", "corrupt"}
    changed = next(batch.number for batch in batches if batch.kind == "microscope")
    assert [batch.microscope == OTHER for batch in batches] == [batch.number >= changed for batch in batches]
    scale = Scale(64, 2, 2, 2, 1)
    drawn = {batch.name: draw_batch(scale, batch, tmp_path / batch.name) for batch in batches[:9]}
    wrong, copied, broken = drawn["batch-03"], drawn["batch-05"], drawn["batch-09"]
    assert _classes(wrong / "labels.csv") != _classes(truth_of(wrong))
    assert sorted(_classes(wrong / "labels.csv")) == sorted(_classes(truth_of(wrong)))
    assert _bytes(copied) == _bytes(drawn["batch-04"])
    whole = [path for path in broken.rglob("*.png") if _is_whole(path)]
    assert 0 < len(whole) < 12


def _classes(table: Path) -> list[str]:
    with table.open(newline="", encoding="utf-8") as file:
        return [row["class"] for row in csv.DictReader(file)]


def _bytes(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.rglob("*.png"))]


def _is_whole(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return False
    return True
