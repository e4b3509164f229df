from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from components.datasets.index import FILE_NAME, DigestIndex
from components.errors import StorageError
from components.storage import ObjectInfo

SHA = "ab" * 32
INFO = ObjectInfo("a.png", 5, "state 1")


def test_a_file_in_the_same_state_is_known(tmp_path: Path) -> None:
    with DigestIndex(tmp_path, "/source") as index:
        index.put(INFO, SHA)
    with DigestIndex(tmp_path, "/source") as index:
        assert index.get(INFO) == SHA


@pytest.mark.parametrize("other", [INFO._replace(key="b.png"), INFO._replace(fingerprint="state 2")])
def test_another_file_or_state_is_not_known(tmp_path: Path, other: ObjectInfo) -> None:
    with DigestIndex(tmp_path, "/source") as index:
        index.put(INFO, SHA)
    with DigestIndex(tmp_path, "/source") as index:
        assert index.get(other) is None


def test_another_source_is_not_known(tmp_path: Path) -> None:
    with DigestIndex(tmp_path, "/source") as index:
        index.put(INFO, SHA)
    with DigestIndex(tmp_path, "/elsewhere") as index:
        assert index.get(INFO) is None


def test_the_newest_state_is_kept(tmp_path: Path) -> None:
    for number in range(3):
        with DigestIndex(tmp_path, "/source") as index:
            index.put(INFO._replace(fingerprint=str(number)), SHA)
    with DigestIndex(tmp_path, "/source") as index:
        assert [index.get(INFO._replace(fingerprint=str(number))) for number in range(3)] == [None, None, SHA]


def test_many_processes_may_share_it(tmp_path: Path) -> None:
    def fill(source: int) -> None:
        with DigestIndex(tmp_path, f"/source/{source}") as index:
            for number in range(1500):
                index.put(ObjectInfo(str(number), 1, "s"), f"{source:064x}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(4)))
    for source in range(4):
        with DigestIndex(tmp_path, f"/source/{source}") as index:
            assert index.get(ObjectInfo("1499", 1, "s")) == f"{source:064x}"


@pytest.mark.parametrize("damage", [b"no database at all, but long enough to be looked at" * 9, b""])
def test_a_damaged_index_is_replaced(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(damage)
    with DigestIndex(tmp_path, "/source") as index:
        assert index.get(INFO) is None
        index.put(INFO, SHA)
    with DigestIndex(tmp_path, "/source") as index:
        assert index.get(INFO) == SHA


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"digests\.sqlite cannot be used"):
        DigestIndex(tmp_path / "file" / "cache", "/source")
