from pathlib import Path

import pytest

from components.endpoint.sources import expand
from components.errors import InputError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", "deep/er/c.tiff", "[1].png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "images"


def test_files_folders_and_patterns_give_each_image_once(tree: Path) -> None:
    found = expand([tree / "b.png", tree, str(tree / "*.png"), str(tree / "**" / "*.tiff")])
    assert [path.relative_to(tree).as_posix() for path in found] == ["b.png", "[1].png", "a.JPG", "deep/er/c.tiff"]


def test_a_file_is_taken_as_it_is_whatever_its_name(tree: Path) -> None:
    assert expand([tree / "notes.txt", tree / "[1].png"]) == [tree / "notes.txt", tree / "[1].png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.png", "missing.png' is no file or folder"),
        ("*.bmp", r"\*.bmp' matches no image"),
        ("empty", "empty' holds no image \\(.bmp, "),
    ],
)
def test_what_names_no_image_is_refused(tree: Path, name: str, message: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        expand([tree / "b.png", tree / name])
