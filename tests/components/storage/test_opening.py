from pathlib import Path

import pytest

from components.errors import StorageError
from components.storage import LocalStore, open_store


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_folder_has_several_names(form: str, tmp_path: Path) -> None:
    store = open_store(form.format(tmp_path))
    assert isinstance(store, LocalStore)
    assert store.uri == str(tmp_path.resolve())


def test_a_uri_may_escape_characters(tmp_path: Path) -> None:
    assert open_store(f"file://{tmp_path}/day%201").uri == f"{tmp_path.resolve()}/day 1"


def test_relative_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("images").uri == str(tmp_path.resolve() / "images")


def test_a_store_need_not_exist_yet(tmp_path: Path) -> None:
    open_store(tmp_path / "new").write("k", b"1")
    assert (tmp_path / "new" / "k").read_bytes() == b"1"


@pytest.mark.parametrize("uri", ["gs://bucket/x", "s3://", "file://server/x", "http://host/x", ""])
def test_an_unknown_kind_of_store_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match=f"'{uri}' names no store: use a folder"):
        open_store(uri)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere is no folder; check the path"):
        open_store(tmp_path / "nowhere", must_exist=True)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(StorageError, match=r"image\.png is a file; give the folder that holds it"):
        open_store(tmp_path / "image.png", must_exist=True)
