"""What a snapshot reads and writes, and what it does not."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.datasets import intake
from components.datasets.source import SourceImage
from components.datasets.versions import DataRepository, Snapshot
from components.errors import DataError, ObjectNotFound, StorageError
from components.storage import Data, LocalStore, ObjectReader, ObjectStore, open_store
from components.storage.s3 import S3Store

Find = Callable[..., Iterator[SourceImage]]


class Watched(LocalStore):
    """A folder that counts how often each file is opened."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: Counter[str] = Counter()

    def open(self, key: str) -> ObjectReader:
        self.opened[key] += 1
        return super().open(key)


@pytest.fixture
def watched(source: LocalStore) -> Watched:
    return Watched(source.root)


@pytest.fixture
def repository(store: ObjectStore, tmp_path: Path) -> DataRepository:
    """Data versions in each kind of store in turn."""
    return DataRepository(store, cache=tmp_path / "cache")


@pytest.fixture
def take(watched: Watched, found: Find) -> Callable[..., Snapshot]:
    """Gives ``take``, which makes a snapshot of the watched source and forgets what was opened before."""

    def take(repository: DataRepository, **options: bool) -> Snapshot:
        watched.opened.clear()
        return repository.snapshot(watched, found(watched), ref="main", message="", **options)

    return take


def test_each_image_is_read_once(repository: DataRepository, take: Callable[..., Snapshot], watched: Watched) -> None:
    take(repository)
    assert watched.opened == {"1/a.png": 1, "1/b.png": 1, "2/c.png": 1, "d.png": 1}


@pytest.mark.usefixtures("no_waiting")
def test_unchanged_files_are_not_read_again(
    repository: DataRepository, take: Callable[..., Snapshot], watched: Watched
) -> None:
    take(repository)
    (watched.root / "d.png").write_bytes(b"new bytes")
    (watched.root / "e.png").write_bytes(b"a new file")
    made = take(repository)
    assert watched.opened == {"d.png": 1, "e.png": 1}
    assert (made.new_images, made.bytes_added) == (2, len(b"new bytes") + len(b"a new file"))


def test_files_that_changed_a_moment_ago_are_read_again(
    repository: DataRepository, take: Callable[..., Snapshot], watched: Watched
) -> None:
    take(repository)
    take(repository)
    assert sum(watched.opened.values()) == 4


@pytest.mark.usefixtures("no_waiting")
def test_an_unchanged_source_in_s3_is_not_read_again(s3_uri: str, found: Find, tmp_path: Path) -> None:
    source = open_store(f"{s3_uri}/source")
    source.write("a.png", b"1")
    repository = DataRepository(open_store(tmp_path / "store"), cache=tmp_path / "cache")
    first = repository.snapshot(source, found(source), ref="main", message="")
    images = list(found(source))
    source.delete("a.png")  # reading it would fail
    assert repository.snapshot(source, images, ref="main", message="") == first._replace(
        previous=first.version, changed=False, new_images=0, bytes_added=0
    )


@pytest.mark.usefixtures("no_waiting")
def test_without_an_index_files_are_read_but_not_stored_again(
    repository: DataRepository, take: Callable[..., Snapshot], watched: Watched
) -> None:
    take(repository)
    made = take(DataRepository(repository.store))
    assert sum(watched.opened.values()) == 4
    assert (made.new_images, made.changed) == (0, False)


@pytest.mark.usefixtures("no_waiting")
def test_a_known_file_is_stored_again_where_it_is_missing(
    repository: DataRepository, take: Callable[..., Snapshot], s3_uri: str, tmp_path: Path
) -> None:
    take(repository)
    for elsewhere in (open_store(f"{s3_uri}/other"), open_store(tmp_path / "other")):
        other = DataRepository(elsewhere, cache=tmp_path / "cache")
        assert take(other).new_images == 4
        assert other.verify().clean


@pytest.mark.usefixtures("no_waiting")
def test_a_new_batch_asks_s3_for_nothing_that_it_holds(
    s3_uri: str, take: Callable[..., Snapshot], watched: Watched, tmp_path: Path
) -> None:
    written: list[str] = []

    class WatchedS3(S3Store):
        def ensure(self, key: str, data: Data, size: int) -> bool:
            written.append(key)
            return super().ensure(key, data, size)

    repository = DataRepository(WatchedS3(*s3_uri.removeprefix("s3://").split("/")), cache=tmp_path / "cache")
    take(repository)
    assert len(written) == 4
    written.clear()
    (watched.root / "e.png").write_bytes(b"new")
    take(DataRepository(repository.store))  # as on another machine, which has no index
    assert len(written) == 1


@pytest.mark.parametrize("limit", [0, 5, 1 << 20])
def test_large_files_pass_through_in_pieces(
    repository: DataRepository, take: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(intake, "WHOLE_BYTES", limit)
    made = take(repository)
    assert made.new_images == 4
    assert [repository.image(record) for record in repository.records(made.version)] == [
        f"bytes of {record.path}".encode() for record in repository.records(made.version)
    ]


class Growing(LocalStore):
    """A folder in which a file grows each time after it was opened, as often as is said."""

    def __init__(self, root: Path, times: int) -> None:
        super().__init__(root)
        self.times = times

    def open(self, key: str) -> ObjectReader:
        reader = super().open(key)
        if key == "d.png" and self.times:
            self.times -= 1
            time.sleep(0.01)  # the file system's clock ticks a hundred times a second
            with (self.root / key).open("ab") as file:
                file.write(b"more")
        return reader


@pytest.mark.parametrize("limit", [0, 1 << 20], ids=["in pieces", "whole"])
def test_a_file_that_was_just_being_written_is_read_again(
    repository: DataRepository, source: LocalStore, found: Find, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(intake, "WHOLE_BYTES", limit)
    growing = Growing(source.root, 1)
    made = repository.snapshot(growing, found(growing), ref="main", message="")
    *_, record = repository.records(made.version)
    assert repository.image(record) == b"bytes of d.pngmore"
    assert repository.verify().clean


@pytest.mark.parametrize("limit", [0, 1 << 20], ids=["in pieces", "whole"])
def test_a_file_that_is_being_written_is_told(
    repository: DataRepository, source: LocalStore, found: Find, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(intake, "WHOLE_BYTES", limit)
    growing = Growing(source.root, 100)
    with pytest.raises(DataError, match=r"d\.png of .* changes while it is read; wait until it is written"):
        repository.snapshot(growing, found(growing), ref="main", message="")
    assert repository.refs() == {}


def test_a_file_that_vanished_is_told(repository: DataRepository, source: LocalStore, found: Find) -> None:
    images = list(found(source))
    source.delete("d.png")
    with pytest.raises(ObjectNotFound, match=r"d\.png does not exist"):
        repository.snapshot(source, images, ref="main", message="")
    assert repository.refs() == {}


def test_a_server_that_dies_in_the_middle_is_told(
    start_s3_server: Callable, monkeypatch: pytest.MonkeyPatch, source: LocalStore, found: Find
) -> None:
    server = start_s3_server()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MSCFLOW_PATIENCE", "1")
    repository = DataRepository(open_store(server.make_bucket()))

    def images() -> Iterator[SourceImage]:
        for number, image in enumerate(found(source)):
            if number == 2:
                server.stop()
            yield image

    with pytest.raises(StorageError, match=r"does not answer .* check AWS_ENDPOINT_URL and that the server runs"):
        repository.snapshot(source, images(), ref="main", message="")
