import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.culture import ConfluenceClass, Modality, Position
from components.datasets.importers import find_images
from components.datasets.simulation import Growth, Microscope, simulate
from components.datasets.simulation.dataset import take
from components.datasets.simulation.growth import make_vessel, plan
from components.datasets.simulation.specification import Simulation
from components.errors import DataError, InputError, StorageError
from components.events import observed
from components.storage import open_store

SINGLE, MULTI = Modality.SINGLE_STACK, Modality.MULTI_STACK
SIZE = (64, 72)


def draw(folder: Path, images: int = 30, modality: Modality = SINGLE, **changes):
    return simulate(folder, **({"images": images, "modality": modality, "size": SIZE, "processes": 1} | changes))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder of 60 single-stack images, half of which hold an abnormal cell."""
    folder = tmp_path_factory.mktemp("simulated")
    return folder, draw(folder, 60, abnormal_fraction=0.5)


def test_the_summary_counts_what_lies_in_the_folder(drawn):
    folder, summary = drawn
    labels = rows(folder / "labels.csv")
    assert summary.images == len(labels) == len(list(folder.rglob("*.png"))) == 60
    assert summary.classes == {
        label: sum(row["class"] == str(int(label)) for row in labels) for label in ConfluenceClass
    }
    assert all(summary.classes.values())
    assert summary.vessels == len({row["vessel"] for row in labels}) == 10
    assert summary.boxes == sum(row["class"] == "Flatten" for row in rows(folder / "boxes.csv"))
    assert summary.drawn
    assert summary.seconds > 0


def test_the_recorded_confluence_is_that_of_the_mask(drawn):
    folder, _ = drawn
    simulation = Simulation(60, SINGLE, 0, SIZE, 10, Growth(), Microscope(), 0.5)
    shots = plan(60, [make_vessel(0, SINGLE, Growth(), index) for index in range(10)], 6)
    for row, shot in list(zip(rows(folder / "labels.csv"), shots, strict=True))[::7]:
        picture = take(simulation, shot)
        assert float(row["confluence"]) == pytest.approx(picture.mask.mean(), abs=1e-9)
        with Image.open(folder / row["file"]) as image:
            assert np.array_equal(np.asarray(image), picture.image)


def test_rows_tell_vessel_day_and_place(drawn):
    folder, _ = drawn
    origins: dict[str, set[tuple[str, ...]]] = {}
    for row in rows(folder / "labels.csv"):
        assert row["file"] == f"images/{row['vessel']}/day{int(row['day']):02d}_{row['position']}.png"
        assert row["group"] == row["vessel"]
        assert int(row["class"]) == ConfluenceClass.from_confluence(float(row["confluence"]))
        assert row["position"] in set(Position)
        assert (row["width"], row["height"]) == ("72", "64")
        assert (row["source"], row["modality"], row["seed"]) == ("simulated", "single_stack", "0")
        origins.setdefault(row["vessel"], set()).add((row["donor"], row["lot"], row["passage"], row["batch"]))
    assert all(len(origin) == 1 for origin in origins.values())


def test_confluence_never_falls_from_day_to_day_at_one_place(drawn):
    folder, _ = drawn
    series: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in rows(folder / "labels.csv"):
        series.setdefault((row["vessel"], row["position"]), []).append((int(row["day"]), float(row["confluence"])))
    assert max(map(len, series.values())) == 6
    for points in series.values():
        confluences = [confluence for _, confluence in sorted(points)]
        assert confluences == sorted(confluences)


def test_every_image_has_its_boxes_or_an_empty_row(drawn):
    folder, summary = drawn
    boxes = rows(folder / "boxes.csv")
    assert {box["file"] for box in boxes} == {row["file"] for row in rows(folder / "labels.csv")}
    assert 15 <= summary.boxes <= 45
    for box in boxes:
        if box["class"]:
            assert 0 <= float(box["x1"]) < float(box["x2"]) <= 72
            assert 0 <= float(box["y1"]) < float(box["y2"]) <= 64


def test_the_importer_reads_it_back(drawn):
    folder, summary = drawn
    images = find_images(open_store(folder), modality=SINGLE)
    assert images.total == 60
    assert images.left_out == {}
    expected = {row["file"]: row for row in rows(folder / "labels.csv")}
    boxed = 0
    for image in images:
        row, known = expected[image.key], image.metadata
        assert known["confluence_class"] == int(row["class"])
        assert known["confluence"] == float(row["confluence"])
        assert (known["vessel"], known["group"], known["day"]) == (row["vessel"], row["vessel"], int(row["day"]))
        assert known["modality"] is SINGLE
        boxed += len(known["boxes"])
    assert boxed == summary.boxes


def test_equal_arguments_give_equal_bytes_in_one_process_or_two(tmp_path):
    draw(tmp_path / "one", 12, seed=5)
    draw(tmp_path / "two", 12, seed=5, processes=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    draw(tmp_path / "other", 12, seed=6)
    assert not set(contents(tmp_path / "one").values()) & set(contents(tmp_path / "other").values())


def test_an_image_does_not_depend_on_how_many_are_drawn(tmp_path):
    draw(tmp_path / "few", 12, vessels=2)
    draw(tmp_path / "many", 36, vessels=3)
    few, many = (
        {name: data for name, data in contents(tmp_path / name).items() if name.endswith(".png")}
        for name in ("few", "many")
    )
    assert len(few) == 12
    assert few.items() <= many.items()


def test_no_two_images_share_their_chance(tmp_path):
    """Without contrast an image is its light and noise alone, which would be equal if its chance were."""
    draw(tmp_path, 24, vessels=3, microscope=Microscope(contrast=0.0, debris=0.0, unevenness=0.0))
    images = [np.asarray(Image.open(path), float) for path in sorted(tmp_path.rglob("*.png"))]
    correlations = np.corrcoef([image.ravel() for image in images])
    assert np.abs(correlations - np.eye(24)).max() < 0.2


def test_abnormal_cells_come_as_often_as_in_the_study(tmp_path):
    assert draw(tmp_path / "multi", 20, MULTI).boxes == 0
    boxes = draw(tmp_path / "single", 120).boxes
    assert 12 <= boxes <= 45


def test_the_same_call_again_draws_nothing(tmp_path):
    first = draw(tmp_path, 6)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = draw(tmp_path, 6)
    assert not again.drawn
    assert (again.images, again.classes, again.boxes) == (first.images, first.classes, first.boxes)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_what_is_missing_is_drawn_again(tmp_path):
    draw(tmp_path, 6)
    complete = contents(tmp_path)
    next(tmp_path.rglob("*.png")).unlink()
    assert draw(tmp_path, 6).drawn
    assert contents(tmp_path) == complete


KILLED = """
from pathlib import Path
from components.culture import Modality
from components.datasets.simulation import simulate
simulate(Path({folder!r}), images=60, modality=Modality.SINGLE_STACK, size=(64, 72), processes=1)
"""


def test_a_killed_simulation_leaves_whole_files_and_is_finished_by_the_same_call(tmp_path):
    folder = tmp_path / "killed"
    for enough in (1, 4, 9):
        process = subprocess.Popen([sys.executable, "-c", KILLED.format(folder=str(folder))], stderr=subprocess.DEVNULL)
        while len(list(folder.rglob("*.png"))) < enough and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        killed = process.wait() == -signal.SIGKILL
        assert (folder / "labels.csv").exists() is not killed
        for path in folder.rglob("*.png"):
            with Image.open(path) as image:
                image.load()
    draw(folder, 60)
    draw(tmp_path / "undisturbed", 60)
    assert contents(folder) == contents(tmp_path / "undisturbed")


def test_progress_is_told(tmp_path):
    events = []
    with observed(events.append):
        draw(tmp_path, 6)
    assert [event["done"] for event in events][-1] == events[-1]["total"] == 6


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="is not empty and holds no simulation: choose a new or empty folder"):
        draw(tmp_path, 6)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


@pytest.mark.parametrize(
    ("change", "named"), [({"seed": 1}, "seed"), ({"images": 7}, "images"), ({"size": (80, 80)}, "size")]
)
def test_a_folder_with_another_simulation_is_left_alone(tmp_path, change, named):
    draw(tmp_path, 6)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=f"holds another simulation \\(.*{named}.*\\): choose a new folder"):
        draw(tmp_path, **({"images": 6} | change))
    assert contents(tmp_path) == before


def test_a_folder_whose_note_is_damaged_is_left_alone(tmp_path):
    (tmp_path / "simulation.json").write_text("{")
    with pytest.raises(DataError, match=r"simulation\.json cannot be read"):
        draw(tmp_path, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": -3}, "images -3 is too few: give 1 or more"),
        ({"images": 0}, "images 0 is too few"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"size": (32, 32)}, "image size 32x32 cannot be drawn: give sides of 64"),
        ({"vessels": 0}, "vessels 0 is out of range: give 1 to 6"),
        ({"vessels": 7}, "vessels 7 is out of range: give 1 to 6"),
        ({"images": 61, "vessels": 2}, "images 61 are more than 2 vessels give on 6 days: give at least 3 vessels"),
        ({"abnormal_fraction": 1.5}, "abnormal_fraction 1.5 is not a fraction"),
        ({"processes": 0}, "processes 0 is too few"),
    ],
)
def test_arguments_out_of_range_are_refused_before_anything_is_written(tmp_path, change, message):
    folder = tmp_path / "new"
    with pytest.raises(InputError, match=message):
        draw(folder, **({"images": 6} | change))
    assert not folder.exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/below' cannot be written"):
        draw(tmp_path / "file" / "below", 6)
