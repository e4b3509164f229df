from pathlib import Path

import pytest
import torch

from components.errors import StorageError
from components.storage import open_store
from components.training.checkpoint import Checkpoint, FileCheckpoint, StoredCheckpoint


@pytest.fixture(params=["file", "folder", "s3"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoint:
    """Each kind of place in turn."""
    if request.param == "file":
        return FileCheckpoint(tmp_path / "job")
    place = request.getfixturevalue("s3_uri") if request.param == "s3" else tmp_path / "store"
    return StoredCheckpoint(open_store(place), "trainings/1/checkpoint.pt")


def test_a_saved_state_is_given_back_without_running_code(checkpoint: Checkpoint) -> None:
    state = {"model": {"a": torch.arange(3.0)}, "history": [{"epoch": 1, "loss": 0.5}]}
    assert checkpoint.load() is None
    checkpoint.save(state)
    checkpoint.save({**state, "history": []})
    loaded = checkpoint.load()
    assert loaded is not None
    assert torch.equal(loaded["model"]["a"], state["model"]["a"])
    assert loaded["history"] == []
    checkpoint.clear()
    assert checkpoint.load() is None
    checkpoint.clear()


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_a_damaged_state_means_a_new_start_and_is_reported(
    keep: int, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save({"model": torch.zeros(100)})
    content = checkpoint._read()
    assert content is not None
    checkpoint._write(content[:keep])
    assert checkpoint.load() is None
    assert "training starts again" in capsys.readouterr().err


def test_a_file_is_all_that_lies_in_its_folder(tmp_path: Path) -> None:
    FileCheckpoint(tmp_path / "job").save({})
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["checkpoint.pt"]


def test_flipped_bytes_are_noticed(tmp_path: Path) -> None:
    checkpoint = FileCheckpoint(tmp_path)
    checkpoint.save({"model": torch.zeros(10_000)})
    content = bytearray(checkpoint.path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    checkpoint.path.write_bytes(content)
    loaded = checkpoint.load()
    assert loaded is None


def test_a_disk_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"checkpoint .*job.* cannot be written"):
        FileCheckpoint(tmp_path / "job").save({})


def test_clearing_leaves_nothing_not_even_what_a_killed_process_left(tmp_path: Path) -> None:
    checkpoint = FileCheckpoint(tmp_path)
    checkpoint.clear()
    checkpoint.save({})
    (tmp_path / "checkpoint.pt.123.partial").write_bytes(b"half")
    checkpoint.clear()
    assert list(tmp_path.iterdir()) == []
