"""How old samples are deleted, from a folder and from S3."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.errors import StorageError
from components.storage import ObjectStore, open_store
from serving.retention import Retention


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path / "store" if request.param == "folder" else request.getfixturevalue("s3_uri"))


def record(store: ObjectStore, days_ago: int, *images: str) -> str:
    day = datetime.now(UTC) - timedelta(days=days_ago)
    key = f"feedback/records/{day:%Y-%m-%d}/120000-{days_ago}.jsonl"
    store.write(key, b"".join(b'{"image": "feedback/images/%s"}\n' % image.encode() for image in images))
    for image in images:
        store.ensure(f"feedback/images/{image}", image.encode(), len(image))
    return key


def keys(store: ObjectStore) -> set[str]:
    return {info.key.rpartition("/")[2] for info in store.list()}


def sweep(retention: Retention, store: ObjectStore) -> None:
    while retention.busy:
        retention.step(store)


def test_old_records_go_with_the_images_that_no_younger_one_names(store: ObjectStore) -> None:
    record(store, 30, "old.png", "both.png")
    record(store, 8, "older.png")
    record(store, 7, "young.png", "both.png")
    store.write("feedback/records/notes.txt", b"not a day")
    store.write("clinic/images.csv", b"somebody else's")
    sweep(Retention(7), store)
    assert keys(store) == {"120000-7.jsonl", "young.png", "both.png", "notes.txt", "images.csv"}


def test_an_image_that_is_named_again_during_the_sweep_stays(store: ObjectStore) -> None:
    record(store, 9, "again.png", "old.png")
    retention = Retention(7)
    for _ in range(2):  # listed, read: both images are doomed
        retention.step(store)
    record(store, 0, "again.png")
    retention.spare(["feedback/images/again.png"])
    sweep(retention, store)
    assert keys(store) == {"again.png", "120000-0.jsonl"}


def test_a_record_deletes_nothing_but_images_and_a_torn_line_nothing_at_all(store: ObjectStore) -> None:
    store.write("refs/clinic", b"a data version")
    day = datetime.now(UTC) - timedelta(days=99)
    bad = b'{"image": "refs/clinic"}\n{"image": 7}\n{"image": "feedback/ima'
    store.write(f"feedback/records/{day:%Y-%m-%d}/1.jsonl", bad)
    sweep(Retention(7), store)
    assert keys(store) == {"clinic"}


def test_a_sweep_that_breaks_off_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    record(store, 9, "1.png", "2.png")
    delete, calls = store.delete, []

    def once(key: str) -> None:
        calls.append(key)
        if len(calls) == 2:
            raise StorageError("the disk is gone")
        delete(key)

    monkeypatch.setattr(store, "delete", once)
    with pytest.raises(StorageError, match="gone"):
        sweep(Retention(7), store)
    assert len(keys(store)) == 2, "the record and one image are left"
    sweep(Retention(7), store)
    assert keys(store) == set()
