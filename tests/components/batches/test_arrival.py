"""Batches on their way: when one is complete, and when two are the same."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from components.batches.arrival import MANIFEST, MARKER, find_arrivals, identify, look_at
from components.errors import DataError, StorageError
from components.storage import open_store

IMAGES = {"a.png": b"one", "wells/b.png": b"two", "wells/c.tif": b"three"}


def upload(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    for name, content in (files or IMAGES).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def say(folder: Path, **manifest: object) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest))


def promised(files: dict[str, bytes]) -> list[dict[str, object]]:
    return [
        {"path": name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for name, content in files.items()
    ]


def only(watched: Path):
    (arrival,) = find_arrivals(open_store(str(watched)))
    return arrival


def test_a_batch_waits_for_its_marker(tmp_path):
    batch = upload(tmp_path / "2026-11-01")
    assert only(tmp_path).waiting == "neither _COMPLETE nor batch.json is there yet"
    (batch / MARKER).touch()
    found = only(tmp_path)
    assert (found.name, found.images, found.waiting) == ("2026-11-01", 3, None)
    assert Path(found.uri) == batch


def test_batches_come_by_name_and_files_beside_them_are_none(tmp_path):
    for name in ("b", "a", ".hidden"):
        (upload(tmp_path / name) / MARKER).touch()
    (tmp_path / "stray.png").write_bytes(b"x")
    assert [each.name for each in find_arrivals(open_store(str(tmp_path)))] == ["a", "b"]


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({"count": 4}, "says 4 images, and 3 are there"),
        ({"images": [*promised(IMAGES), {"path": "d.png"}]}, "1 of 4 images are not there yet: d.png"),
        ({"images": promised(IMAGES)[:1]}, "2 images are there that batch.json does not name"),
        ({"images": []}, "3 images are there that batch.json does not name"),
        ({"images": [{"path": "a.png", "size": 99}]}, "1 of 1 images are not there yet: a.png"),
        ({"images": "all"}, "cannot be used"),
        ({}, "neither 'images' nor 'count'"),
    ],
)
def test_a_batch_waits_until_what_it_says_of_itself_holds(tmp_path, manifest, reason):
    batch = upload(tmp_path / "batch")
    say(batch, **manifest)
    assert reason in only(tmp_path).waiting
    say(batch, images=promised(IMAGES))
    assert only(tmp_path).waiting is None


def test_half_a_manifest_is_a_batch_that_waits(tmp_path):
    batch = upload(tmp_path / "batch")
    (batch / MANIFEST).write_text('{"images": [{"pa')
    assert "cannot be used" in only(tmp_path).waiting


def test_an_empty_batch_is_never_complete(tmp_path):
    (tmp_path / "batch").mkdir()
    (tmp_path / "batch" / MARKER).touch()
    assert only(tmp_path).waiting == "it holds no images"


def test_the_same_files_are_the_same_batch_wherever_and_however_they_are_marked(tmp_path):
    first, second = upload(tmp_path / "x" / "first"), upload(tmp_path / "y" / "second")
    (first / MARKER).touch()
    say(second, images=promised(IMAGES))
    ids = {identify(only(tmp_path / place), tmp_path / "cache") for place in ("x", "y")}
    assert len(ids) == 1


@pytest.mark.parametrize("change", [{"a.png": b"other"}, {"d.png": b"one"}, {"labels.csv": b"file,class\na.png,1\n"}])
def test_another_image_or_label_is_another_batch(tmp_path, change):
    batch = upload(tmp_path / "place" / "batch")
    (batch / MARKER).touch()
    before = only(tmp_path / "place")
    known = identify(before, tmp_path / "cache")
    upload(batch, change)
    after = only(tmp_path / "place")
    assert after.listing != before.listing
    assert identify(after, tmp_path / "cache") != known


def test_an_image_that_is_not_the_promised_one_is_named(tmp_path):
    batch = upload(tmp_path / "batch")
    say(batch, images=promised({**IMAGES, "a.png": b"eno"}))
    with pytest.raises(DataError, match=r"batch/a\.png is not the file that batch\.json names"):
        identify(only(tmp_path), tmp_path / "cache")


def test_a_batch_that_a_person_names_needs_no_marker(tmp_path):
    batch = upload(tmp_path / "batch")
    assert look_at(str(batch)).waiting is None
    say(batch, count=9)
    assert "says 9 images" in look_at(str(batch)).waiting


def test_a_named_batch_that_cannot_be_one_is_told(tmp_path):
    with pytest.raises(StorageError):
        look_at(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        look_at(str(tmp_path / "empty"))


def test_an_upload_to_s3_is_a_batch_too(s3_uri, tmp_path):
    store = open_store(s3_uri)
    for name, content in IMAGES.items():
        store.write(f"day 1/{name}", content)
    store.write(f"day 1/{MARKER}", b"")
    (found,) = find_arrivals(store)
    upload(tmp_path / "day 1")
    assert (found.name, found.images, found.waiting) == ("day 1", 3, None)
    assert identify(found, tmp_path / "cache") == identify(look_at(str(tmp_path / "day 1")), tmp_path / "other")
    shutil.rmtree(tmp_path / "cache")
    assert look_at(found.uri).listing == found.listing
