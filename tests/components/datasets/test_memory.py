"""Memory does not grow with the number of images."""

import hashlib
import io
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.datasets import sorting
from components.datasets.manifest import ImageRecord
from components.datasets.source import SourceImage
from components.datasets.versions import DataRepository
from components.storage import LocalStore, ObjectInfo, ObjectReader, open_store

FEW, MANY = 2_000, 14_000
SLACK = 2_000_000  # bytes; 12,000 records more would take at least twice as much, if they were held


class Endless(LocalStore):
    """A source of as many images as are asked for, of a hundred different contents."""

    def __init__(self, root: Path, count: int) -> None:
        super().__init__(root)
        self.count = count

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (ObjectInfo(f"vessel {n % 97}/image {n}.png", 6, "1.1.1.1") for n in range(self.count))

    def open(self, key: str) -> ObjectReader:
        return ObjectReader(io.BytesIO(b"%06d" % (len(key) % 100)), ObjectInfo(key, 6, "1.1.1.1"))  # type: ignore[arg-type] # BytesIO reads as raw files do


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "RUN_BYTES", 300_000)


def peak(work: Callable[[], object]) -> int:
    """Give the most bytes that were allocated at once during some work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def records(count: int, salt: str) -> Iterator[ImageRecord]:
    for number in range(count):
        sha256 = hashlib.sha256(f"{number} {salt if number % 10 == 0 else ''}".encode()).hexdigest()
        yield ImageRecord(path=f"v{number % 97}/{number}.png", sha256=sha256, size=1, extra={"note": "n" * 100})


@pytest.mark.slow
def test_snapshots_stream(tmp_path: Path) -> None:
    def snapshot(count: int) -> None:
        source = Endless(tmp_path, count)
        repository = DataRepository(open_store(tmp_path / "store"), cache=tmp_path / f"cache {count}")
        images = (SourceImage(info.key, info, info.key, {"extra": {"note": "n" * 100}}) for info in source.list())
        assert repository.snapshot(source, images, ref=f"n{count}", message="").images == count
        images = (SourceImage(info.key, info, "b" + info.key) for info in source.list())
        made = repository.snapshot(source, images, ref=f"n{count}", message="", extend=True)
        assert made.images == 2 * count

    snapshot(10)  # what is allocated once
    few = peak(lambda: snapshot(FEW))
    assert peak(lambda: snapshot(MANY)) < few + SLACK


@pytest.mark.slow
def test_versions_are_made_read_and_compared_in_a_stream(tmp_path: Path) -> None:
    repository = DataRepository(open_store(tmp_path / "store"))

    def work(count: int) -> None:
        before, after = (repository.add_version(records(count, salt)) for salt in "ab")
        assert sum(1 for _ in repository.records(after)) == count
        diff = repository.diff(before, after)
        assert diff.changed == sum(1 for _ in diff) == count // 10

    work(10)
    few = peak(lambda: work(FEW))
    assert peak(lambda: work(MANY)) < few + SLACK
