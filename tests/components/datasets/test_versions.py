import getpass
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.culture import ConfluenceClass
from components.datasets.blobs import blob_key
from components.datasets.source import SourceImage
from components.datasets.versions import MOVE_ATTEMPTS, DataRepository
from components.errors import ConflictError, DataError, IntegrityError, StorageError
from components.storage import LocalStore, ObjectStore, open_store
from components.storage.local import INTERNAL

Find = Callable[..., Iterator[SourceImage]]


@pytest.fixture
def repository(store: ObjectStore, tmp_path: Path) -> DataRepository:
    """Data versions in each kind of store in turn."""
    return DataRepository(store, cache=tmp_path / "cache")


@pytest.fixture
def take(repository: DataRepository, source: LocalStore, found: Find) -> Callable[..., str]:
    """Gives ``take``, which makes a snapshot of the source as it is and gives the version."""

    def take(ref: str = "main", *, extend: bool = False, **metadata: object) -> str:
        images = found(source, **metadata)
        return repository.snapshot(source, images, ref=ref, message="a message", extend=extend).version

    return take


def paths(repository: DataRepository, version: str) -> list[str]:
    return [record.path for record in repository.records(version)]


def batch(folder: Path, *names: str) -> LocalStore:
    folder.mkdir()
    for name in names:
        (folder / name).write_text(f"bytes of {name}")
    return LocalStore(folder)


def test_a_snapshot_holds_every_image(repository: DataRepository, source: LocalStore, found: Find) -> None:
    made = repository.snapshot(
        source, found(source, confluence_class=ConfluenceClass.SEEDING), ref="main", message="first", author="lab"
    )
    assert (made.images, made.new_images, made.bytes_added) == (4, 4, sum(info.size for info in source.list()))
    assert (made.previous, made.changed, made.lost_races) == (None, True, 0)
    records = list(repository.records(made.version))
    assert [record.path for record in records] == ["1/a.png", "1/b.png", "2/c.png", "d.png"]
    assert all(record.confluence_class == 1 for record in records)
    assert [repository.image(record) for record in records] == [source.read(record.path) for record in records]
    assert repository.refs() == {"main": made.version}


def test_equal_content_has_an_equal_id_everywhere(take: Callable[..., str], source: LocalStore, found: Find) -> None:
    other = DataRepository(LocalStore(source.root.parent / "other store"))
    assert other.snapshot(source, found(source), ref="elsewhere", message="").version == take()


def test_equal_bytes_are_kept_once(repository: DataRepository, take: Callable[..., str], source: LocalStore) -> None:
    for copy in ("copy 1.png", "copy 2.png"):
        (source.root / copy).write_bytes(source.read("d.png"))
    version = take()
    assert len(paths(repository, version)) == 6
    assert len(list(repository.store.list("blobs/"))) == 4


def test_the_same_images_again_change_nothing(repository: DataRepository, source: LocalStore, found: Find) -> None:
    first = repository.snapshot(source, found(source), ref="main", message="1")
    again = repository.snapshot(source, found(source), ref="main", message="2")
    assert again == first._replace(new_images=0, bytes_added=0, previous=first.version, changed=False)
    assert [entry.message for entry in repository.log("main")] == ["1"]


def test_a_snapshot_holds_what_the_source_holds_now(
    repository: DataRepository, take: Callable[..., str], source: LocalStore
) -> None:
    take()
    source.delete("1/a.png")
    source.write("e.png", b"new")
    assert paths(repository, take()) == ["1/b.png", "2/c.png", "d.png", "e.png"]


def test_a_new_batch_adds_to_what_there_is(
    repository: DataRepository, take: Callable[..., str], found: Find, tmp_path: Path
) -> None:
    take()
    new = batch(tmp_path / "batch", "d.png", "e.png")
    new.write("d.png", b"a better picture")
    made = repository.snapshot(new, found(new, batch="2"), ref="main", message="batch 2", extend=True)
    records = {record.path: record for record in repository.records(made.version)}
    assert sorted(records) == ["1/a.png", "1/b.png", "2/c.png", "d.png", "e.png"]
    assert repository.image(records["d.png"]) == b"a better picture"
    assert [path for path, record in records.items() if record.batch == "2"] == ["d.png", "e.png"]
    assert made.new_images == 2


def test_the_log_tells_who_what_and_why(repository: DataRepository, source: LocalStore, found: Find) -> None:
    first = repository.snapshot(source, found(source), ref="main", message="first", author="lab")
    source.delete("d.png")
    second = repository.snapshot(source, found(source), ref="main", message="second")
    newest, oldest = repository.log("main")
    assert (newest.version, newest.author, newest.message, newest.images) == (
        second.version,
        getpass.getuser(),
        "second",
        3,
    )
    assert (oldest.version, oldest.author, oldest.message, oldest.parent) == (first.version, "lab", "first", None)
    assert oldest.source == source.uri
    assert newest.parent is not None
    assert oldest.time <= newest.time


def test_a_part_of_a_version_is_a_version(repository: DataRepository, take: Callable[..., str]) -> None:
    records = list(repository.records(take()))
    part = repository.add_version(records[2:0:-1])
    assert paths(repository, part) == ["1/b.png", "2/c.png"]
    assert repository.add_version(records[1:3]) == part
    assert part not in repository.refs().values()
    assert repository.resolve(part) == part


def test_versions_are_found_by_ref_id_and_first_digits(repository: DataRepository, take: Callable[..., str]) -> None:
    version = take("clinic")
    for name in ("clinic", version, version.upper(), version[:6], version[:40]):
        assert repository.resolve(name) == version


@pytest.mark.parametrize("name", ["nothing", "abcdef", "f" * 64, "12345", "", "../x", "a b"])
def test_an_unknown_version_is_told(repository: DataRepository, take: Callable[..., str], name: str) -> None:
    take("clinic")
    with pytest.raises(DataError, match=rf"'{name}' is no ref and no data version .*its refs: clinic"):
        repository.resolve(name)


def test_digits_that_could_mean_two_versions_are_refused(repository: DataRepository) -> None:
    for digit in "12":
        repository.store.write(f"manifests/abcdef0{digit * 57}.jsonl", b"")
    some = r"\(abcdef01111, abcdef02222\)"
    with pytest.raises(DataError, match=f"'abcdef0' could be any of 2 data versions {some}; give more digits"):
        repository.resolve("abcdef0")
    assert repository.resolve("abcdef01") == "abcdef0" + "1" * 57


def test_a_bad_ref_name_is_refused_before_any_work(repository: DataRepository, source: LocalStore, found: Find) -> None:
    with pytest.raises(DataError, match="'my ref' cannot be a ref's name"):
        repository.snapshot(source, found(source), ref="my ref", message="")
    assert list(repository.store.list()) == []


def test_a_source_without_images_makes_no_version(repository: DataRepository, source: LocalStore) -> None:
    with pytest.raises(DataError, match="at least one image"):
        repository.snapshot(source, [], ref="main", message="")
    assert repository.refs() == {}


def test_lost_or_altered_bytes_are_not_given_out(repository: DataRepository, take: Callable[..., str]) -> None:
    first, second, *_ = repository.records(take())
    repository.store.write(blob_key(first.sha256), b"other bytes")
    with pytest.raises(IntegrityError, match=r"1/a\.png .* has digest .* but is recorded under"):
        repository.image(first)
    repository.store.delete(blob_key(second.sha256))
    with pytest.raises(IntegrityError, match=r"has lost the bytes of 1/b\.png"):
        repository.image(second)


def test_the_loser_of_a_race_follows_the_winner(
    repository: DataRepository, source: LocalStore, found: Find, tmp_path: Path
) -> None:
    rival = DataRepository(open_store(repository.store.uri))
    other = batch(tmp_path / "other", "z.png")

    def overtaken() -> Iterator[SourceImage]:
        yield from found(source)
        rival.snapshot(other, found(other), ref="main", message="winner", extend=True)

    made = repository.snapshot(source, overtaken(), ref="main", message="loser", extend=True)
    assert made.lost_races == 1
    assert paths(repository, made.version) == ["1/a.png", "1/b.png", "2/c.png", "d.png", "z.png"]
    newest, oldest = repository.log("main")
    assert (newest.message, oldest.message) == ("loser", "winner")
    assert made.previous == oldest.version
    assert paths(repository, oldest.version) == ["z.png"]


def test_a_race_that_is_always_lost_ends(
    repository: DataRepository, source: LocalStore, found: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    tried = []

    def lose(*_: object) -> None:
        tried.append(1)
        raise ConflictError("somebody else")

    monkeypatch.setattr(repository.store, "replace", lose)
    with pytest.raises(ConflictError, match=f"moved by other writers {MOVE_ATTEMPTS} times in a row.*try again"):
        repository.snapshot(source, found(source), ref="main", message="")
    assert len(tried) == MOVE_ATTEMPTS


def test_many_writers_at_once_all_survive(store: ObjectStore, found: Find, tmp_path: Path) -> None:
    sources = [batch(tmp_path / f"batch {number}", f"{number}.png") for number in range(6)]

    def write(number: int) -> str:
        mine = DataRepository(open_store(store.uri), cache=tmp_path / "cache")
        message, images = f"batch {number}", found(sources[number])
        return mine.snapshot(sources[number], images, ref="main", message=message, extend=True).version

    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(write, range(6)))
    repository = DataRepository(store)
    assert paths(repository, repository.resolve("main")) == [f"{number}.png" for number in range(6)]
    log = repository.log("main")
    assert sorted(entry.message for entry in log) == [f"batch {number}" for number in range(6)]
    assert {entry.version for entry in log} == set(versions)
    assert repository.verify().clean


def test_a_full_disk_leaves_the_old_state(small_disk: Path, source: LocalStore, found: Find, tmp_path: Path) -> None:
    repository = DataRepository(open_store(small_disk), cache=tmp_path / "cache")
    before = repository.snapshot(source, found(source), ref="main", message="").version
    source.write("large.png", bytes(1 << 20))
    with pytest.raises(StorageError, match=r"No space left on device\); free some space"):
        repository.snapshot(source, found(source), ref="main", message="")
    assert repository.refs() == {"main": before}
    assert repository.verify().clean
    source.delete("large.png")
    source.write("small.png", b"1")
    assert repository.snapshot(source, found(source), ref="main", message="").images == 5


@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_an_interrupt_leaves_nothing_half_done(
    repository: DataRepository, source: LocalStore, found: Find, take: Callable[..., str], after: int
) -> None:
    before = take("other")

    def interrupted() -> Iterator[SourceImage]:
        for number, image in enumerate(found(source, batch="2")):
            if number == after:
                os.kill(os.getpid(), signal.SIGINT)
            yield image
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        repository.snapshot(source, interrupted(), ref="main", message="")
    assert repository.refs() == {"other": before}
    assert repository.verify().clean
    leftovers = [
        info.key for info in repository.store.list() if not info.key.startswith(("blobs/", "manifests/", "log/"))
    ]
    assert leftovers == ["refs/other.json"]
    if isinstance(repository.store, LocalStore):
        assert {path.suffix for path in (repository.store.root / INTERNAL).iterdir()} == {".lock"}
    assert repository.snapshot(source, found(source, batch="2"), ref="main", message="").changed


def test_a_version_is_added_to_a_ref_by_many_at_once_and_none_is_lost(
    repository: DataRepository, take: Callable[..., str], source: LocalStore
) -> None:
    records = list(repository.records(take("batch")))
    parts = [repository.add_version([record]) for record in records]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda part: repository.extend("main", part, message=part[:6], author="lab"), parts))
    assert paths(repository, repository.refs()["main"]) == [record.path for record in records]
    assert {entry.message for entry in repository.log("main")} == {part[:6] for part in parts}
    again = repository.extend("main", parts[0], message="again")
    assert (again.changed, again.images, again.previous) == (False, len(records), again.version)


def test_a_version_that_is_added_replaces_images_of_the_same_path(
    repository: DataRepository, take: Callable[..., str]
) -> None:
    before, labelled = take(), take("batch", confluence_class=ConfluenceClass.OVERGROWN)
    grown = repository.extend("main", labelled, message="labels")
    assert (grown.previous, grown.changed, grown.images) == (before, True, 4)
    assert {record.confluence_class for record in repository.records(grown.version)} == {4}
    with pytest.raises(DataError, match="holds no data version"):
        repository.extend("main", "0" * 64, message="")
