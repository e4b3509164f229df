import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.errors import ConflictError, ObjectNotFound, StorageError
from components.storage import LocalStore, open_store
from components.storage import local as local_module

# Writes "half" of an object to the store named on the command line, tells so, and waits for more input.
HALF_WRITER = """
import sys
from components.storage import open_store

class Slow:
    pieces = [b"half", b"whole", b""]
    def read(self, size=-1):
        if self.pieces[0] == b"whole":
            print("half", flush=True)
            sys.stdin.readline()
        return self.pieces.pop(0)

open_store(sys.argv[1]).write("slow", Slow())
"""


def temporary_files(store: LocalStore) -> list[Path]:
    return [path for path in (store.root / local_module.INTERNAL).iterdir() if path.suffix != ".lock"]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def half_writer(store: LocalStore) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", HALF_WRITER, store.uri]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        yield process
        process.kill()


def test_the_next_writer_removes_what_a_killed_one_left(
    store: LocalStore, half_writer: subprocess.Popen[bytes]
) -> None:
    half_writer.send_signal(signal.SIGKILL)
    half_writer.wait()
    assert len(temporary_files(store)) == 1
    LocalStore(store.root).write("other", b"")
    assert temporary_files(store) == []
    assert [info.key for info in store.list()] == ["other"]


def test_a_living_writer_is_left_alone(store: LocalStore, half_writer: subprocess.Popen[bytes]) -> None:
    LocalStore(store.root).write("other", b"")
    half_writer.communicate(b"\n")
    assert half_writer.returncode == 0
    assert store.read("slow") == b"halfwhole"
    assert temporary_files(store) == []


def test_reading_a_folder_leaves_no_trace_in_it(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"1")
    store = open_store(tmp_path, must_exist=True)
    assert [info.key for info in store.list()] == ["image.png"]
    assert store.read("image.png") == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_a_file_that_changes_while_it_is_read_is_noticed(store: LocalStore) -> None:
    store.write("k", b"first")
    with store.open("k") as reader:
        reader.read()
        (store.root / "k").write_bytes(b"longer than before")
        with pytest.raises(ConflictError, match="k changed while it was being read"):
            reader.confirm()


def test_a_file_that_is_replaced_while_it_is_read_stays_whole(store: LocalStore) -> None:
    store.write("k", b"first")
    with store.open("k") as reader:
        store.write("k", b"second")
        assert reader.read() == b"first"


def test_a_fresh_file_is_not_settled(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("k", b"1")
    info = store.stat("k")
    assert info is not None
    assert not store.settled(info)
    monkeypatch.setattr(local_module, "SETTLE_NS", -1)
    assert store.settled(info)


def test_putting_the_time_of_a_change_back_does_not_hide_it(store: LocalStore) -> None:
    store.write("k", b"1")
    path, before = store.root / "k", store.stat("k")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    with path.open("r+b") as file:
        file.write(b"2")
    os.utime(path, ns=times)
    assert store.stat("k") != before


def test_links_are_followed(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "image.png").write_bytes(b"1")
    store.root.mkdir()
    (store.root / "folder").symlink_to(tmp_path / "elsewhere")
    (store.root / "file").symlink_to(tmp_path / "elsewhere" / "image.png")
    assert sorted(info.key for info in store.list()) == ["file", "folder/image.png"]
    assert store.read("folder/image.png") == store.read("file") == b"1"


def test_a_link_in_a_circle_ends(store: LocalStore) -> None:
    store.write("a/k", b"")
    (store.root / "a" / "up").symlink_to(store.root)
    assert [info.key for info in store.list()] == ["a/k"]


def test_a_link_to_nothing_is_listed_and_cannot_be_read(store: LocalStore) -> None:
    store.root.mkdir()
    (store.root / "gone.png").symlink_to(store.root / "nowhere")
    assert [(info.key, info.size) for info in store.list()] == [("gone.png", 0)]
    with pytest.raises(ObjectNotFound, match=r"gone\.png"):
        store.read("gone.png")


def test_create_works_where_links_do_not(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    assert store.create("a/k", b"first")
    assert not store.create("a/k", b"second")
    assert store.read("a/k") == b"first"


def test_a_full_disk_is_told_and_leaves_what_was_there(small_disk: Path) -> None:
    store = LocalStore(small_disk)
    store.write("k", b"old")
    for write in (store.write, store.create):
        with pytest.raises(StorageError, match=r"No space left.*free some space"):
            write("large", bytes(1 << 20))
    with pytest.raises(StorageError, match="No space left"):
        store.replace("k", bytes(1 << 20), store.read_tagged("k")[1])
    assert store.read("k") == b"old"
    assert temporary_files(store) == []
    store.write("small", bytes(1000))


def test_a_limit_on_file_sizes_is_told(store: LocalStore) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match=r"File too large.*free some space"):
            store.write("k", bytes(200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(store.list()) == []
    assert temporary_files(store) == []


def test_a_read_only_folder_is_told(read_only_folder: Path) -> None:
    store = open_store(read_only_folder, must_exist=True)
    assert list(store.list()) == []
    for use in (store.check_writable, lambda: store.write("k", b""), lambda: store.replace("k", b"", None)):
        with pytest.raises(StorageError, match=r"cannot be written \(Read-only file system\); mend"):
            use()


def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    with pytest.raises(StorageError, match=r"Permission denied.*mend its permissions"):
        LocalStore(folder).check_writable()


def test_a_file_in_the_place_of_a_folder_is_told(store: LocalStore) -> None:
    store.write("a", b"")
    with pytest.raises(StorageError, match="in its place"):
        store.write("a/b", b"")


def test_names_that_are_too_long_are_told(store: LocalStore) -> None:
    with pytest.raises(StorageError, match="File name too long"):
        store.write("n" * 300, b"")
