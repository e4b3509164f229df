"""Which image files a person means who names files, folders and patterns."""

import glob
from collections.abc import Iterable
from pathlib import Path

from components.endpoint.gallery import owner
from components.errors import InputError
from components.formats import EXTENSIONS


def expand(given: Iterable[str | Path]) -> list[Path]:
    """Give the files that are named, each once: files as they are, the images below folders, matches of patterns.

    Overlays that were written into such a folder are no images to ask about, unless they are named themselves.

    Raises:
        InputError: if something named does not exist, or a folder or pattern holds no image.
    """
    found: dict[Path, None] = {}
    for item in given:
        found.update(dict.fromkeys(_expand_one(str(item))))
    return list(found)


def _expand_one(item: str) -> list[Path]:
    path = Path(item).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        images = sorted(each for each in path.rglob("*") if _is_image(each))
        if not images:
            raise InputError(f"folder '{item}' holds no image ({', '.join(sorted(EXTENSIONS))})")
        return images
    matches = sorted(Path(each) for each in glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    images = [each for each in matches if _is_image(each)]
    if not images:
        what = "matches no image" if glob.has_magic(item) else "is no file or folder"
        raise InputError(f"'{item}' {what}; check the path")
    return images


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and path.is_file() and owner(path) is None
