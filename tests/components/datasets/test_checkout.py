from pathlib import Path

import pytest

from components.culture import ConfluenceClass, Modality
from components.datasets.blobs import blob_key
from components.datasets.importers import find_images
from components.datasets.manifest import Box
from components.datasets.versions import DataRepository
from components.errors import DataError, IntegrityError, StorageError
from components.storage import open_store

FULL = {
    "modality": Modality.MULTI_STACK,
    "confluence_class": ConfluenceClass.SUBCULTURE,
    "confluence": 0.7123456789012345,
    "boxes": (Box(1.5, 2.0, 3.25, 4.0, "Flatten"), Box(0.1, 0.2, 0.3, 0.4, "a, b")),
    "group": "g",
    "vessel": "T75 no. 3",
    "day": 3,
    "position": "centre",
    "donor": "D-1",
    "lot": "L,2",
    "passage": 4,
    "batch": "2026-11",
    "source": "plant",
    "extra": {"note": 'with "quotes", and\nlines', "Größe": "1 µm", "": "no name"},
}


@pytest.fixture
def version(repository: DataRepository, hold) -> str:
    records = [
        hold("ü/all there is to know.png", b"1", **FULL),
        hold("1/looked at, nothing found.tif", b"2", confluence_class=ConfluenceClass.SEEDING, boxes=()),
        hold("4/nothing known.jpg", b"3"),
        hold("0.png", b"1", confluence_class=ConfluenceClass.OVERGROWN, confluence=1.0, day=0, extra={"area": "5"}),
    ]
    return repository.add_version(records)


def imported(folder: Path) -> tuple[DataRepository, str]:
    source = open_store(folder, must_exist=True)
    repository = DataRepository(open_store(folder.parent / f"store of {folder.name}"))
    images = find_images(source, unlabelled=True)
    return repository, repository.snapshot(source, images, ref="main", message="").version


def test_a_checked_out_folder_imports_as_the_same_version(
    repository: DataRepository, version: str, tmp_path: Path
) -> None:
    assert repository.checkout(version, tmp_path / "out") == 4
    assert imported(tmp_path / "out")[1] == version


def test_a_version_without_metadata_imports_as_the_same_version(
    repository: DataRepository, hold, tmp_path: Path
) -> None:
    version = repository.add_version([hold("1/a.png", b"1"), hold("b.png", b"2")])
    repository.checkout(version, tmp_path / "out")
    assert imported(tmp_path / "out")[1] == version
    assert not (tmp_path / "out" / "boxes.csv").exists()


@pytest.mark.parametrize("field", [name for name in FULL if name != "confluence_class"])
def test_each_field_survives_alone(repository: DataRepository, hold, tmp_path: Path, field: str) -> None:
    version = repository.add_version([hold("a.png", b"1", **{field: FULL[field]})])
    repository.checkout(version, tmp_path / "out")
    other, again = imported(tmp_path / "out")
    assert list(other.records(again)) == list(repository.records(version))


def test_the_folder_holds_the_images_and_their_tables(repository: DataRepository, version: str, tmp_path: Path) -> None:
    repository.checkout(version, tmp_path / "out")
    files = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert files == sorted([record.path for record in repository.records(version)] + ["labels.csv", "boxes.csv"])
    assert (tmp_path / "out" / "1" / "looked at, nothing found.tif").read_bytes() == b"2"


def test_changing_what_was_checked_out_does_not_change_the_store(
    repository: DataRepository, version: str, tmp_path: Path
) -> None:
    repository.checkout(version, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.*"):
        path.write_bytes(b"changed")
    assert repository.verify(version).clean


def test_an_empty_folder_may_be_filled(repository: DataRepository, version: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert repository.checkout(version, tmp_path / "out") == 4


def test_a_folder_in_use_is_left_alone(repository: DataRepository, version: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match=r"out is not an empty folder; choose another"):
        repository.checkout(version, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_an_unknown_version_makes_no_folder(repository: DataRepository, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no data version"):
        repository.checkout("f" * 64, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_image_makes_no_folder(repository: DataRepository, version: str, tmp_path: Path) -> None:
    record = next(record for record in repository.records(version) if record.path.startswith("4/"))
    repository.store.write(blob_key(record.sha256), b"?")
    with pytest.raises(IntegrityError, match=r"4/nothing known\.jpg"):
        repository.checkout(version, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_a_killed_checkout_left_is_in_nobodys_way(
    repository: DataRepository, version: str, tmp_path: Path
) -> None:
    (tmp_path / ".out.partial" / "1").mkdir(parents=True)
    (tmp_path / ".out.partial" / "1" / "stale.png").write_bytes(b"1")
    repository.checkout(version, tmp_path / "out")
    assert imported(tmp_path / "out")[1] == version
    assert not (tmp_path / ".out.partial").exists()
