from pathlib import Path

import pytest
import torch

from components.errors import StorageError
from components.training.checkpoint import FileCheckpoint


def test_a_saved_state_is_given_back_without_running_code(tmp_path: Path) -> None:
    checkpoint = FileCheckpoint(tmp_path / "job")
    state = {"model": {"a": torch.arange(3.0)}, "history": [{"epoch": 1, "loss": 0.5}]}
    assert checkpoint.load() is None
    checkpoint.save(state)
    checkpoint.save({**state, "history": []})
    loaded = checkpoint.load()
    assert loaded is not None
    assert torch.equal(loaded["model"]["a"], state["model"]["a"])
    assert loaded["history"] == []
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_a_damaged_file_means_a_new_start_and_is_reported(
    keep: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = FileCheckpoint(tmp_path)
    checkpoint.save({"model": torch.zeros(100)})
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(content[:keep])
    assert checkpoint.load() is None
    assert "training starts again" in capsys.readouterr().err


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
