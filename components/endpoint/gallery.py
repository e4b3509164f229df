"""A folder of overlays: each image's picture has a place of its own, and no other file is written over.

An overlay lies where its image lies below the images' common folder, under the image's name with ``.png``. Where
that name is another image's overlay already, or any other file, a few digits are added that belong to the image,
so that a second run finds the same place again. What an overlay belongs to stands in the file itself.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from threading import Semaphore
from typing import Self

from PIL.PngImagePlugin import PngInfo

from components.endpoint.overlay import draw
from components.endpoint.prediction import AnyPrediction
from components.errors import ImageError, StorageError
from components.imaging import decode

_OWNER_KEY = "mscflow-overlay"
_OWNER = re.compile(rb"tEXt" + _OWNER_KEY.encode() + rb"\0([0-9a-f]{16})")
# Higher takes twice as long and more, for a tenth of the bytes.
_COMPRESSION = 1
DRAWN_AT_ONCE = min(4, os.cpu_count() or 1)


class Gallery:
    """Overlays of some images, used as a context manager; several threads may add to it.

    Where it ends it waits for the overlays that are being drawn, so that no part of one stays behind.

    Args:
        folder: Made if it is missing.
        images: Files that overlays will be written of.

    Raises:
        StorageError: if the folder cannot be made.
    """

    def __init__(self, folder: Path, images: Iterable[Path]) -> None:
        self._folder = folder
        self._taken: dict[Path, str] = {}
        # Each drawing holds the image a few times, which may be large.
        self._pens = Semaphore(DRAWN_AT_ONCE)
        self._root = Path(os.path.commonpath([_absolute(image).parent for image in images]))
        _make(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _place in range(DRAWN_AT_ONCE):
            self._pens.acquire()

    def add(self, image: Path, prediction: AnyPrediction) -> Path:
        """Draw and write an image's overlay; it appears whole or not at all.

        Returns:
            The overlay.

        Raises:
            ImageError: if the image cannot be read any more.
            StorageError: if the overlay cannot be written.
        """
        with self._pens:
            return self._draw(image, prediction)

    def _draw(self, image: Path, prediction: AnyPrediction) -> Path:
        try:
            pixels = decode(image.read_bytes())
        except OSError as error:
            raise ImageError("unreadable", f"{image}: the file cannot be read ({error.strerror})") from error
        place, info = self._place(image), PngInfo()
        info.add_text(_OWNER_KEY, _mark(image))
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            draw(pixels, prediction).save(temporary, "PNG", pnginfo=info, compress_level=_COMPRESSION)
            temporary.replace(place)
        except OSError as error:
            raise StorageError(f"overlay {place} cannot be written ({error.strerror or error}); make room") from error
        finally:
            temporary.unlink(missing_ok=True)
        return place

    def _place(self, image: Path) -> Path:
        plain = self._folder / _absolute(image).relative_to(self._root).with_suffix(".png")
        mark = _mark(image)
        for place in (plain, plain.with_name(f"{plain.stem}-{mark[:8]}.png")):
            if self._taken.setdefault(place, mark) == mark and (not place.exists() or owner(place) == mark):
                _make(place.parent)
                return place
        raise StorageError(f"{place} is no overlay of {image}; give another folder with --overlays")


def owner(path: Path) -> str | None:
    """Give the mark of the image that a file is the overlay of; None if it is no overlay."""
    try:
        with path.open("rb") as file:
            found = _OWNER.search(file.read(128))
    except OSError:
        return None
    return found[1].decode() if found else None


def _mark(image: Path) -> str:
    """Tell images apart by where they lie, without telling where."""
    return hashlib.sha256(os.fsencode(_absolute(image))).hexdigest()[:16]


def _absolute(path: Path) -> Path:
    # Unlike resolve() it keeps the names of links, and unlike absolute() it takes out '..'.
    return Path(os.path.abspath(path))  # noqa: PTH100


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"folder '{folder}' cannot be made ({error.strerror}); give another --overlays") from error
