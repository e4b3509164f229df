"""Figures of an image's pixels by which it is judged fit for use; measured once for each digest."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.datasets.database import database_errors, open_database
from components.datasets.manifest import ImageRecord
from components.datasets.parallel import BATCH, batched, parallel_map, threads_for
from components.datasets.versions import DataRepository
from components.errors import ImageError
from components.imaging import decode

# Part of the key that measurements are remembered under: a change of what is measured needs a new one.
_METHOD = "1"
_FILE_NAME = "quality.sqlite"
_SCHEMA = "CREATE TABLE IF NOT EXISTS measurements (key TEXT PRIMARY KEY, figures BLOB NOT NULL) WITHOUT ROWID;"

# Decoding takes memory, so that more threads than this do not pay even if the store is far away.
_MOST_THREADS = 8
_DARK, _BRIGHT = 16, 240
_SHARPNESS_SIDE = 256
_BACKGROUND_SIDE = 16
# Rounding to whole grey levels, with variance 1/12, passes through the Laplacian with a gain of 20.
_ROUNDING = 20 / 12


class Measurement(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an image's pixels are like; all zero if they cannot be read.

    Attributes:
        problem: Why it cannot be read, as ``ImageError.reason``, or None.
        message: The sentence that goes with it.
        width: Pixels.
        height: Pixels.
        contrast: Standard deviation of the grey levels (0 to 255).
        dark: Share of pixels in the lowest sixteenth of the grey scale.
        bright: Share of pixels in the highest sixteenth.
        sharpness: See ``sharpness``.
    """

    problem: str | None = None
    message: str = ""
    width: int = 0
    height: int = 0
    contrast: float = 0.0
    dark: float = 0.0
    bright: float = 0.0
    sharpness: float = 0.0


class Measured(NamedTuple):
    """A record and what its image is like."""

    record: ImageRecord
    figures: Measurement


def measure(data: bytes, max_pixels: int) -> Measurement:
    """Measure one image file; larger ones than ``max_pixels`` are not decoded."""
    try:
        image = Image.fromarray(decode(data, max_pixels=max_pixels)).convert("L")
    except ImageError as error:
        return Measurement(problem=error.reason, message=str(error))
    counts = np.array(image.histogram(), np.float64)
    shares, levels = counts / counts.sum(), np.arange(256)
    mean = float(shares @ levels)
    return Measurement(
        width=image.width,
        height=image.height,
        contrast=float(np.sqrt(shares @ (levels - mean) ** 2)),
        dark=float(shares[:_DARK].sum()),
        bright=float(shares[_BRIGHT:].sum()),
        sharpness=sharpness(image),
    )


def sharpness(image: Image.Image) -> float:
    """Tell how much fine detail an image has, at about the scale at which a network sees it.

    It is the variance of the Laplacian, less what rounding alone puts there, over the variance that
    is left when the uneven light is taken off, both at 256 pixels along the longer side. Sharp
    micrographs have 0.1 to 20; a blur whose standard deviation is a sixty-fourth of the side brings
    them below 0.006. Sensor noise counts as detail, so that noisy images are never called blurred.
    """
    shrink = max(1.0, max(image.size) / _SHARPNESS_SIDE)
    size = (max(3, round(image.width / shrink)), max(3, round(image.height / shrink)))
    small = image.convert("F").resize(size, Image.Resampling.BOX)
    light = small.resize((_BACKGROUND_SIDE, _BACKGROUND_SIDE), Image.Resampling.BOX).resize(
        size, Image.Resampling.BICUBIC
    )
    grey: NDArray[np.float32] = np.asarray(small)
    around = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1]
    detail = float((around - 4 * grey[1:-1, 1:-1]).var()) - _ROUNDING
    structure = float((grey - np.asarray(light)).var())
    return max(detail, 0.0) / structure if structure > 0 else 0.0


def measured(
    repository: DataRepository, records: Iterable[ImageRecord], max_pixels: int, cache: Path | None
) -> Iterator[Measured]:
    """Measure the images of records, in their order; only those are read that were never measured.

    Raises:
        IntegrityError: if the store has lost or altered an image.
        StorageError: if the cache cannot be written.
    """

    def work(batch: list[tuple[ImageRecord, Measurement | None]]) -> list[tuple[Measured, bool]]:
        return [
            (Measured(record, known or measure(repository.image(record), max_pixels)), known is None)
            for record, known in batch
        ]

    with _Memory(cache, max_pixels) as memory:
        batches = ([(record, memory.get(record.sha256)) for record in batch] for batch in batched(records, BATCH))
        threads = min(_MOST_THREADS, threads_for(repository.store))
        with closing(parallel_map(work, batches, threads)) as results:
            for batch in results:
                memory.put((item.record.sha256, item.figures) for item, is_new in batch if is_new)
                yield from (item for item, _ in batch)


class _Memory:
    """Measurements by digest, in a local database or, without a folder, nowhere."""

    def __init__(self, folder: Path | None, max_pixels: int) -> None:
        self._suffix = f":{_METHOD}:{max_pixels}"
        self._path = (folder or Path()) / _FILE_NAME
        self._database = open_database(self._path, _SCHEMA) if folder else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            self._database.close()

    def get(self, sha256: str) -> Measurement | None:
        if self._database is None:
            return None
        with database_errors(self._path):
            query = "SELECT figures FROM measurements WHERE key = ?"
            row = self._database.execute(query, (sha256 + self._suffix,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Measurement)

    def put(self, figures: Iterable[tuple[str, Measurement]]) -> None:
        rows = [(sha256 + self._suffix, msgspec.json.encode(item)) for sha256, item in figures]
        if self._database is None or not rows:
            return
        with database_errors(self._path), self._database:
            self._database.executemany("INSERT OR REPLACE INTO measurements VALUES (?, ?)", rows)
