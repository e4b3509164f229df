import json
from pathlib import Path

import pytest

from components.culture import Modality
from components.datasets import steps
from components.datasets.blobs import blob_key
from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.errors import DataError, IntegrityError, StorageError
from components.events import EVENTS_VARIABLE
from components.settings import DataSettings, SplitSettings
from components.storage import open_store

SINGLE = Modality.SINGLE_STACK


class Place:
    """A source of twelve vessels with an image of each class, a store and a home."""

    def __init__(self, folder: Path, png) -> None:
        self.source, self.store, self.home = folder / "My cultures (1)", str(folder / "store"), folder / "home"
        self.rows = ["file,class,vessel"]
        for number in range(48):
            self.add(f"{number:02}.png", png(number), number % 4 + 1, f"v{number // 4}")

    def add(self, name, data, label, vessel):
        self.source.mkdir(exist_ok=True)
        (self.source / name).write_bytes(data)
        self.rows.append(f"{name},{label},{vessel}")
        (self.source / "labels.csv").write_text("\n".join(self.rows))

    def snapshot(self, **settings):
        return steps.snapshot(str(self.source), self.store, DataSettings(**settings), SINGLE, self.home)

    def validate(self, version):
        return steps.validate(self.store, version, DataSettings(), self.home)


@pytest.fixture
def place(tmp_path, png):
    return Place(tmp_path, png)


def test_from_a_folder_to_a_split(place, png):
    place.add("x.png", png(0), 1, "v0")
    place.add("y.png", b"", 1, "v1")
    place.add("z.png", png(50), "", "v2")
    taken = place.snapshot()
    assert {name: taken[name] for name in ("ref", "images", "new_images", "changed", "layout", "left_out")} == {
        "ref": "My-cultures-1",
        "images": 50,
        "new_images": 49,
        "changed": True,
        "layout": "labels",
        "left_out": {"without a confluence class": 1},
    }
    valid = place.validate(taken["data_version"])
    assert (valid["accepted"], valid["quarantined"], valid["warnings"]) == (48, {"duplicate": 1, "empty": 1}, [])
    assert [finding["path"] for finding in valid["findings"]] == ["x.png", "y.png"]
    divided = steps.split(place.store, valid["data_version"], taken["ref"], SplitSettings())
    assert (divided["missing"], divided["withheld"]) == (0, 0)
    parts = load_split(DataRepository(open_store(place.store)), divided["split_id"])
    assert {part: len(records) for part, records in parts.items()} == {
        part: sum(counts.values()) for part, counts in divided["counts"].items()
    }
    assert sum(len(records) for records in parts.values()) == 48
    assert {record.modality for records in parts.values() for record in records} == {SINGLE}
    json.dumps([taken, valid, divided])


def test_the_same_source_again_changes_nothing(place):
    first, second = place.snapshot(), place.snapshot()
    assert second == {**first, "new_images": 0, "changed": False}
    assert place.validate(first["data_version"]) == place.validate(first["data_version"])


def test_a_ref_of_one_s_own(place):
    assert place.snapshot(ref="plant-7")["ref"] == "plant-7"
    assert set(DataRepository(open_store(place.store)).refs()) == {"plant-7"}


def test_all_findings_are_kept_and_fifty_are_told(place):
    for number in range(60):
        place.add(f"broken{number:02}.png", f"not an image {number}".encode(), 1, "v1")
    version = place.snapshot()["data_version"]
    valid = place.validate(version)
    assert (valid["quarantined"], len(valid["findings"])) == ({"unreadable": 60}, 50)
    lines = open_store(place.store).read(f"quarantine/{version}.jsonl").splitlines()
    findings = [json.loads(line) for line in lines]
    assert [finding["path"] for finding in findings] == [f"broken{number:02}.png" for number in range(60)]
    assert findings[:50] == valid["findings"]
    assert findings[0].keys() == {"path", "sha256", "reason", "message"}


def test_a_new_batch_is_measured_alone(place, png):
    place.validate(place.snapshot()["data_version"])
    store = open_store(place.store)
    known = list(DataRepository(store).records(place.snapshot()["data_version"]))
    place.add("new.png", png(70), 2, "v9")
    version = place.snapshot()["data_version"]
    for record in known:
        store.delete(blob_key(record.sha256))
    assert place.validate(version)["accepted"] == 49
    with pytest.raises(IntegrityError):
        steps.validate(place.store, version, DataSettings(), place.home / "another")


def test_progress_is_reported(place, tmp_path, monkeypatch):
    events = tmp_path / "events.jsonl"
    monkeypatch.setenv(EVENTS_VARIABLE, str(events))
    place.validate(place.snapshot()["data_version"])
    reported = [json.loads(line) for line in events.read_text().splitlines()]
    last = {event["task"]: (event["done"], event["total"]) for event in reported}
    assert last == {"snapshot": (48, 48), "validate": (48, 48)}


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("/data/plant 1/", "plant-1"),
        ("s3://cultures/plant-1/2026", "2026"),
        ("s3://cultures", "cultures"),
        ("/data/日本", "images"),
        ("/data/.hidden", "hidden"),
        ("/", "images"),
        ("data/a/..", "data"),
    ],
)
def test_a_lineage_is_named_after_its_source(uri, name):
    assert steps.lineage_name(uri) == name


def test_nothing_is_left_of_a_snapshot_that_was_refused(place):
    place.rows.append("lost.png,1,v1")
    place.add("last.png", b"x", 7, "v1")
    with pytest.raises(DataError, match="class '7'"):
        place.snapshot()
    assert list(open_store(place.store).list()) == []


def test_no_such_source(place, tmp_path):
    with pytest.raises(StorageError, match="nowhere"):
        steps.snapshot(str(tmp_path / "nowhere"), place.store, DataSettings(), SINGLE, place.home)


def test_no_such_version(place):
    place.snapshot()
    with pytest.raises(DataError, match="holds no data version"):
        place.validate("0" * 64)
    with pytest.raises(DataError, match="holds no data version"):
        steps.split(place.store, "0" * 64, "line", SplitSettings())
