from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.datasets.blobs import blob_key
from components.datasets.manifests import manifest_key
from components.datasets.refs import Refs, entry_key, ref_key
from components.datasets.source import SourceImage
from components.datasets.verification import Fault
from components.datasets.versions import DataRepository
from components.storage import LocalStore, ObjectStore, open_store

Find = Callable[..., Iterator[SourceImage]]


@pytest.fixture
def repository(store: ObjectStore, tmp_path: Path) -> DataRepository:
    """Data versions in each kind of store in turn."""
    return DataRepository(store, cache=tmp_path / "cache")


@pytest.fixture
def version(repository: DataRepository, source: LocalStore, found: Find) -> str:
    return repository.snapshot(source, found(source), ref="main", message="").version


def spoil(store: ObjectStore, key: str) -> None:
    """Change one byte, so that the size stays."""
    content = store.read(key)
    store.write(key, bytes([content[0] ^ 1]) + content[1:])


def test_a_sound_store_is_clean(repository: DataRepository, version: str) -> None:
    report = repository.verify()
    assert report.clean
    assert (report.versions, report.checked, report.missing, report.altered) == (1, 4, (), ())
    assert repository.verify(version) == report


def test_an_image_of_many_versions_is_hashed_once(repository: DataRepository, version: str) -> None:
    repository.add_version(list(repository.records(version))[:2])
    report = repository.verify()
    assert (report.versions, report.checked) == (2, 4)


def test_missing_and_altered_images_are_reported(repository: DataRepository, version: str) -> None:
    first, second, *_ = repository.records(version)
    repository.store.delete(blob_key(first.sha256))
    spoil(repository.store, blob_key(second.sha256))
    for report in (repository.verify(), repository.verify(version)):
        assert not report.clean
        assert report.missing == (Fault(blob_key(first.sha256), f"1/a.png of {version[:12]}"),)
        assert report.altered == (Fault(blob_key(second.sha256), f"1/b.png of {version[:12]}"),)
        assert report.checked == 4


def test_a_fault_of_one_version_does_not_touch_another(repository: DataRepository, version: str) -> None:
    records = list(repository.records(version))
    part = repository.add_version(records[:2])
    spoil(repository.store, blob_key(records[3].sha256))
    assert repository.verify(part).clean
    assert not repository.verify(version).clean


def test_an_altered_manifest_is_reported(repository: DataRepository, version: str) -> None:
    spoil(repository.store, manifest_key(version))
    assert repository.verify().altered == (Fault(manifest_key(version), "ref main"),)


def test_a_missing_manifest_is_reported(repository: DataRepository, version: str) -> None:
    repository.store.delete(manifest_key(version))
    assert repository.verify().missing == (Fault(manifest_key(version), "ref main"),)


@pytest.mark.parametrize("kind", ["altered", "missing"])
def test_a_broken_log_is_reported(repository: DataRepository, version: str, kind: str) -> None:
    head = Refs(repository.store).head("main")
    assert head is not None
    assert head.version == version
    key = entry_key(head.entry)
    if kind == "altered":
        spoil(repository.store, key)
    else:
        repository.store.delete(key)
    assert getattr(repository.verify(), kind) == (Fault(key, "ref main"),)


def test_a_garbled_ref_is_reported(repository: DataRepository, version: str) -> None:
    repository.store.write(ref_key("main"), b"\0")
    assert repository.verify().altered == (Fault(ref_key("main"), "ref main"),)
    assert repository.verify(version).clean


def test_what_is_missing_comes_back_with_the_next_snapshot(
    repository: DataRepository, version: str, source: LocalStore, found: Find
) -> None:
    first, *_ = repository.records(version)
    repository.store.delete(blob_key(first.sha256))
    again = repository.snapshot(source, found(source), ref="main", message="", recheck=True)
    assert (again.version, again.new_images) == (version, 1)
    assert repository.verify().clean


@pytest.mark.usefixtures("no_waiting")
def test_what_a_power_failure_tore_is_mended_by_the_next_snapshot(
    source: LocalStore, found: Find, tmp_path: Path
) -> None:
    repository = DataRepository(open_store(tmp_path / "store"), cache=tmp_path / "cache")
    version = repository.snapshot(source, found(source), ref="main", message="").version
    first, *_ = repository.records(version)
    repository.store.write(blob_key(first.sha256), b"")
    assert len(repository.verify().altered) == 1
    repository.snapshot(source, found(source), ref="main", message="")
    assert repository.verify().clean


def test_a_store_that_was_never_used_is_clean(tmp_path: Path) -> None:
    report = DataRepository(open_store(tmp_path / "new")).verify()
    assert (report.clean, report.versions, report.checked) == (True, 0, 0)
