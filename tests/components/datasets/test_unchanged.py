"""A source that lists as it did is not read, nor is anything made of it anew."""

import os
from pathlib import Path

import pytest

from components.datasets import steps, unchanged
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.storage import LocalStore, ObjectReader, open_store

pytestmark = pytest.mark.usefixtures("no_waiting")


class Lists(LocalStore):
    """A folder that counts what is asked of it beside its listing."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened = 0

    def open(self, key: str) -> ObjectReader:
        self.opened += 1
        return super().open(key)


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "photos"
    for label in (1, 2):
        (folder / str(label)).mkdir(parents=True)
        for name in ("a.png", "b.png"):
            (folder / str(label) / name).write_bytes(f"{label}{name}".encode())
    return folder


@pytest.fixture
def take(place, tmp_path):
    def run(ref="main", **options):
        source = Lists(place)
        taken = steps.take(source, open_store(tmp_path / "store"), tmp_path / "home", ref=ref, message="", **options)
        return taken, source.opened

    return run


@pytest.fixture
def made(monkeypatch):
    """Counts the snapshots that are worked out."""
    calls = []
    real = DataRepository.snapshot

    def counting(self, *given, **named):
        calls.append(named["ref"])
        return real(self, *given, **named)

    monkeypatch.setattr(DataRepository, "snapshot", counting)
    return calls


def test_the_second_time_gives_the_same_without_working_it_out(take, made):
    first, _ = take()
    again, opened = take()
    assert again.snapshot == first.snapshot._replace(
        new_images=0, bytes_added=0, previous=first.snapshot.version, changed=False
    )
    assert (again.layout, again.left_out) == (first.layout, first.left_out)
    assert (made, opened) == (["main"], 0)


def change_content(place):
    (place / "1" / "a.png").write_bytes(b"other")


def put_time_back(place):
    path = place / "1" / "a.png"
    before = path.stat()
    path.write_bytes(b"1A.png")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def add(place):
    (place / "2" / "c.png").write_bytes(b"new")


def remove(place):
    (place / "2" / "b.png").unlink()


def rename(place):
    (place / "2" / "b.png").rename(place / "1" / "c.png")


def label(place):
    (place / "labels.csv").write_text("file,class\n1/a.png,4\n")


@pytest.mark.parametrize("change", [change_content, put_time_back, add, remove, rename, label])
def test_any_change_is_seen(take, made, place, change):
    first, _ = take()
    change(place)
    then, _ = take()
    assert len(made) == 2
    assert then.snapshot.version != first.snapshot.version


def test_a_ref_that_somebody_moved_is_moved_back(take, made, tmp_path):
    first, _ = take()
    repository = DataRepository(open_store(tmp_path / "store"))
    [one, *_] = repository.records(first.snapshot.version)
    repository.extend(
        "main", repository.add_version([ImageRecord(path="z.png", sha256=one.sha256, size=one.size)]), message=""
    )
    then, _ = take()
    assert then.snapshot.version == first.snapshot.version
    assert then.snapshot.changed
    assert made == ["main", "main"]


def test_other_options_and_other_refs_are_other_questions(take, made):
    take()
    take(unlabelled=True)
    take("other")
    assert made == ["main", "main", "other"]


def test_after_a_restart_of_the_machine_the_blobs_are_asked_for_again(take, made, tmp_path, monkeypatch):
    take()
    for blob in (tmp_path / "store" / "blobs").rglob("*"):
        if blob.is_file():
            blob.write_bytes(b"")  # as a power failure leaves it
    monkeypatch.setattr(unchanged, "_boot", lambda: "another start")
    then, opened = take()
    assert made == ["main", "main"]
    assert then.snapshot.new_images == opened == 4


def test_files_that_may_still_change_unnoticed_are_not_remembered(take, made, monkeypatch):
    monkeypatch.setattr(LocalStore, "settled", lambda _self, _info: False)
    take()
    take()
    assert made == ["main", "main"]
