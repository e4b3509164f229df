import csv
from pathlib import Path

import pytest

from components.audit.log import AuditLog
from components.batches import intake as batches
from components.culture import Modality
from components.datasets.versions import DataRepository
from components.errors import DataError
from components.settings import DataSettings
from components.storage import open_store

SINGLE = Modality.SINGLE_STACK


class Place:
    """A store, and batches of noise beside it."""

    def __init__(self, folder: Path, png) -> None:
        self.folder, self.store, self.home, self.png = folder, str(folder / "store"), folder / "home", png
        self.repository = DataRepository(open_store(self.store))

    def batch(self, name, seeds, labels, **columns):
        """Write a batch of images, one a seed, and its table; '' for a label that nobody gave."""
        folder = self.folder / "batches" / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for seed, label in zip(seeds, labels, strict=True):
            (folder / f"{seed}.png").write_bytes(self.png(seed))
            rows.append({"file": f"{seed}.png", "class": label, "vessel": f"v{seed % 3}", **columns})
        with (folder / "labels.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
        return str(folder)

    def intake(self, uri, name="november", lineage="clinic", modality=SINGLE):
        return batches.intake(uri, name, self.store, lineage, modality, DataSettings(), self.home)

    def admit(self, version, name="november", lineage="clinic"):
        return batches.admit(self.store, version, lineage, name, "b" * 64, self.home)

    def records(self, version):
        return {record.path: record for record in self.repository.records(version)}


@pytest.fixture
def place(tmp_path, png):
    return Place(tmp_path, png)


def test_a_batch_becomes_a_version_of_its_own_and_the_lineage_stays(place):
    place.repository.snapshot(*_images(place.batch("older", range(3), "123")), ref="clinic", message="")
    before = place.repository.refs()["clinic"]
    taken = place.intake(place.batch("november", range(10, 16), ["1", "2", "", "3", "", "4"], batch="lot 7"))
    counts = {name: taken[name] for name in ("images", "accepted", "labelled", "unlabelled", "new_images")}
    assert counts == {"images": 6, "accepted": 6, "labelled": 4, "unlabelled": 2, "new_images": 6}
    assert place.repository.refs() == {"clinic": before, "batches.clinic.november": taken["batch_version"]}
    record = place.records(taken["batch_version"])["november/11.png"]
    assert (record.batch, record.extra, record.confluence_class) == ("november", {"source_batch": "lot 7"}, 2)


def test_what_is_unfit_stays_out_and_is_counted(place):
    uri = place.batch("november", range(4), "1234")
    (Path(uri) / "2.png").write_bytes(b"")
    taken = place.intake(uri)
    assert (taken["accepted"], taken["quarantined"]) == (3, {"empty": 1})
    assert "november/2.png" not in place.records(taken["batch_version"])
    for number in range(4):
        (Path(uri) / f"{number}.png").write_bytes(b"%d no image" % number)
    with pytest.raises(DataError, match="no image can be used"):
        place.intake(uri)


def test_a_batch_of_boxes_counts_as_labelled(place):
    uri = place.batch("november", range(2), ["", ""])
    (Path(uri) / "boxes.csv").write_text("file,x1,y1,x2,y2,class\n0.png,1,1,9,9,Flatten\n")
    taken = place.intake(uri)
    assert (taken["labelled"], taken["unlabelled"]) == (1, 1)


def test_admission_extends_the_lineage_once(place):
    first = place.intake(place.batch("october", range(3), "123"), "october")["batch_version"]
    begun = place.admit(first, "october")
    assert (begun["images"], begun["new_images"], begun["changed"]) == (3, 3, True)
    assert begun["data_version"] == first
    second = place.intake(place.batch("november", range(10, 14), "1234"))["batch_version"]
    grown = place.admit(second)
    assert (grown["images"], grown["new_images"], grown["ref"]) == (7, 4, "clinic")
    again = place.admit(second)
    assert again == {**grown, "new_images": 0, "changed": False}
    assert [entry.message for entry in place.repository.log("clinic")] == [
        f"batch november ({'b' * 12})",
        f"batch october ({'b' * 12})",
    ]


def test_an_admission_is_told_once_also_by_a_run_that_was_killed_before_it_told(place, monkeypatch):
    version = place.intake(place.batch("november", range(3), "123"))["batch_version"]
    with monkeypatch.context() as killed:
        killed.setattr(batches, "_tell", lambda *_: None)
        place.admit(version)
    for _ in range(2):
        place.admit(version)
    (entry,) = AuditLog(open_store(place.store)).entries()
    assert (entry.action, entry.subject) == ("batch.admitted", "clinic/november")
    assert entry.details["data_version"] == place.repository.refs()["clinic"]
    assert entry.details["batch_id"] == "b" * 64


def test_labels_that_come_later_take_the_place_of_none(place):
    place.admit(place.intake(place.batch("october", range(3), "123"), "october")["batch_version"], "october")
    place.admit(place.intake(place.batch("november", range(10, 13), ["1", "", ""]))["batch_version"])
    grown = place.admit(place.intake(place.batch("november", range(10, 13), "143"))["batch_version"])
    assert (grown["images"], grown["new_images"], grown["changed"]) == (6, 0, True)
    found = place.records(grown["data_version"])
    assert [found[f"november/{seed}.png"].confluence_class for seed in range(10, 13)] == [1, 4, 3]


def test_nothing_to_admit_is_said(place):
    with pytest.raises(DataError, match="nothing of batch 'november'"):
        place.admit("")


@pytest.mark.parametrize("name", ["november", "day 3 (again)", "日本", "x" * 200])
def test_each_batch_has_a_ref_whatever_its_name(place, name):
    taken = place.intake(place.batch("any", range(2), "12"), name)
    assert place.repository.resolve(taken["ref"]) == taken["batch_version"]
    assert batches.batch_ref("clinic", name) != batches.batch_ref("clinic", f"{name}!")


def _images(uri):
    from components.datasets.importers import find_images

    source = open_store(uri)
    return source, find_images(source)
