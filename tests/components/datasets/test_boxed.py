from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.datasets.boxed import check_labels, is_abnormal, load_boxes
from components.datasets.importers import find_images
from components.datasets.manifest import Box, ImageRecord
from components.datasets.splits import ABNORMAL, CLEAN, load_split, make_split
from components.datasets.versions import DataRepository
from components.errors import DataError
from components.settings import SplitSettings
from components.storage import open_store


def record(name: str, *labels: str, searched: bool = True, **more: object) -> ImageRecord:
    boxes = tuple(Box(1, 2, 5, 8, label) for label in labels) if searched else None
    return ImageRecord(path=name, sha256=name * 64, size=1, boxes=boxes, **more)


def make_source(folder: Path, vessels: int, *, abnormal: int) -> DataRepository:
    """Write three images a vessel; in the first vessels one of them shows an abnormal cell."""
    noise = np.random.default_rng(0)
    labels, boxes = ["file,vessel"], ["file,x1,y1,x2,y2,class"]
    for vessel in range(vessels):
        for number in range(3):
            name = f"v{vessel}_{number}.png"
            (folder / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 255, (20, 40, 3)).astype(np.uint8)).save(folder / "images" / name)
            labels.append(f"images/{name},v{vessel}")
            shown = vessel < abnormal and number == 0
            boxes.append(f"images/{name},10,5,30,15,Flatten" if shown else f"images/{name},,,,,")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    (folder / "boxes.csv").write_text("\n".join(boxes) + "\n")
    return DataRepository(open_store(folder / "store"), cache=folder / "cache")


def snapshot(folder: Path, repository: DataRepository) -> str:
    source = open_store(folder)
    images = find_images(source, unlabelled=True)
    return repository.snapshot(source, images, ref="line", message="").version


def test_boxes_are_fractions_of_their_own_image(tmp_path: Path) -> None:
    repository = make_source(tmp_path, 3, abnormal=1)
    records = list(repository.records(snapshot(tmp_path, repository)))
    boxes, abnormal = load_boxes(repository, records, ["Flatten"], tmp_path / "cache")
    assert boxes.images == 9
    assert boxes.image.tolist() == [0]
    assert boxes.corners.tolist() == [[0.25, 0.25, 0.75, 0.75]]
    assert abnormal.tolist() == [True]
    assert load_boxes(repository, records, ["Other"], tmp_path / "cache")[1].tolist() == [False]


def test_a_label_that_no_box_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataError, match=r"labelled 'Flatten'; there are 'Dead' \(2\), 'Alive' \(1\): .*--positive"):
        check_labels([record("a", "Dead", "Alive"), record("b", "Dead")], ["Flatten"])


def test_images_that_nobody_searched_are_refused() -> None:
    with pytest.raises(DataError, match="no image has boxes"):
        check_labels([record("a", searched=False)], ["Flatten"])


def test_only_the_given_labels_are_abnormal() -> None:
    assert is_abnormal(record("a", "Alive", "Dead"), ["Dead"])
    assert not is_abnormal(record("a", "Alive"), ["Dead"])
    assert not is_abnormal(record("a", searched=False), ["Dead"])


class TestSplit:
    def test_every_part_shows_abnormal_cells_and_vessels_stay_whole(self, tmp_path: Path) -> None:
        repository = make_source(tmp_path, 12, abnormal=5)
        version = snapshot(tmp_path, repository)
        split = make_split(repository, version, "line", SplitSettings(), ["Flatten"])
        assert all(counts[ABNORMAL] >= 1 and counts[CLEAN] >= 1 for counts in split.counts.values())
        parts = load_split(repository, split.id)
        vessels = [{record.vessel for record in records} for records in parts.values()]
        assert sum(map(len, vessels)) == len(set.union(*vessels)) == 12

    def test_a_few_images_without_an_abnormal_cell_need_not_be_on_every_side(self, tmp_path: Path) -> None:
        repository = make_source(tmp_path, 8, abnormal=8)
        version = snapshot(tmp_path, repository)
        table = (tmp_path / "boxes.csv").read_text().replace(",,,,,", ",1,1,9,9,Flatten")
        one = "v0_1.png,1,1,9,9,Flatten"
        assert one in table
        (tmp_path / "boxes.csv").write_text(table.replace(one, "v0_1.png,,,,,"))
        version = snapshot(tmp_path, repository)
        split = make_split(repository, version, "line", SplitSettings(), ["Flatten"])
        assert sum(counts[CLEAN] for counts in split.counts.values()) == 1
        assert all(counts[ABNORMAL] >= 1 for counts in split.counts.values())

    def test_too_few_vessels_with_abnormal_cells_are_refused(self, tmp_path: Path) -> None:
        repository = make_source(tmp_path, 8, abnormal=2)
        with pytest.raises(DataError, match="class abnormal has images in 2 group"):
            make_split(repository, snapshot(tmp_path, repository), "line", SplitSettings(), ["Flatten"])
