"""Every kind of file that may lie among the images: read, or quarantined with a reason."""

import pytest

from components.culture import Modality
from components.datasets import steps
from components.datasets.arrays import load_arrays
from components.datasets.versions import DataRepository
from components.errors import DataError
from components.imaging import Preprocessing
from components.settings import DataSettings
from components.storage import open_store
from tests.files import QUARANTINED, READ


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "mixed"
    files = READ | {name: data for name, (_, data) in QUARANTINED.items()}
    for number, (name, data) in enumerate(files.items()):
        place = folder / ("1" if "plain" in name or "again" in name else str(number % 4 + 1))
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data())
    return folder


def test_what_can_be_read_is_and_the_rest_is_quarantined_and_both_are_counted(source, tmp_path):
    store, home = str(tmp_path / "store"), tmp_path / "home"
    taken = steps.snapshot(str(source), store, DataSettings(), Modality.SINGLE_STACK, home)
    assert (taken["images"], taken["left_out"]) == (len(READ) + len(QUARANTINED), {})
    valid = steps.validate(store, taken["data_version"], DataSettings(), home)
    found = {finding["path"].rpartition("/")[2]: finding["reason"] for finding in valid["findings"]}
    assert found == {name: reason for name, (reason, _) in QUARANTINED.items()}
    assert valid["accepted"] == len(READ)
    assert sum(valid["quarantined"].values()) == len(QUARANTINED)
    assert all("\n" not in finding["message"] for finding in valid["findings"])

    repository = DataRepository(open_store(store))
    records = list(repository.records(valid["data_version"]))
    images = load_arrays(repository, records, Preprocessing(size=32), home / "cache")
    assert images.shape == (len(READ), 32, 32, 3)
    assert (images.std(axis=(1, 2, 3)) > 10).all()


def test_nothing_but_garbage_is_an_error_that_counts_it(tmp_path):
    for label, (name, (_, data)) in enumerate(list(QUARANTINED.items())[:4], start=1):
        (tmp_path / "bad" / str(label)).mkdir(parents=True)
        (tmp_path / "bad" / str(label) / name).write_bytes(data())
    store, home = str(tmp_path / "store"), tmp_path / "home"
    taken = steps.snapshot(str(tmp_path / "bad"), store, DataSettings(), Modality.SINGLE_STACK, home)
    with pytest.raises(DataError, match=r"no image can be used \(2 empty, 2 unreadable; first 1/zero\.png"):
        steps.validate(store, taken["data_version"], DataSettings(), home)
