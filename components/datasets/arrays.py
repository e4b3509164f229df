"""Decoded images as arrays; each image is decoded once for each size, ever.

The cache holds a file for each image and size, named by the image's digest: a new data version costs
decoding for its new images alone.
"""

import os
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.datasets.manifest import ImageRecord
from components.datasets.parallel import BATCH, batched, parallel_map, threads_for
from components.datasets.versions import DataRepository
from components.errors import ImageError, StorageError
from components.events import Progress
from components.imaging import Preprocessing, arrange, read

# Part of the cache's folder: a change of how pixels are decoded or resized needs a new one.
_METHOD = "1"
# Validation has applied the user's limit; this one stops only what was never validated.
_MAX_PIXELS = 1_000_000_000
_IN_MEMORY_BYTES = 2_000_000_000
_MOST_THREADS = 8
_CHECKSUM_BYTES = 4


def load_arrays(
    repository: DataRepository, records: Sequence[ImageRecord], prep: Preprocessing, cache: Path
) -> NDArray[np.uint8]:
    """Give images as one array, decoding those that were never decoded at this size.

    Args:
        repository: Where their bytes lie.
        records: The images.
        prep: What its channels show, and the side of the square that they are resized to; normalising is left out.
        cache: Local folder that keeps them decoded.

    Returns:
        Shape (len(records), size, size, 3), in the order of the records; writable. Above 2 GB it
        is mapped from a temporary file in the cache's folder, which goes with the array.

    Raises:
        ImageError: naming the image that cannot be decoded.
        IntegrityError: if the store has lost or altered an image.
        StorageError: if the cache cannot be written.
    """
    size = prep.size
    folder = cache / "images" / _kind(prep)
    images = _allocate((len(records), size, size, 3), cache)
    progress = Progress("decode images", len(records), "images")

    def load(batch: list[tuple[int, ImageRecord]]) -> int:
        for place, record in batch:
            if not _fill(images[place], folder, record.sha256):
                images[place] = arrange(read_image(repository, record), prep)
                _keep(images[place], folder, record.sha256)
        return len(batch)

    threads = min(_MOST_THREADS, threads_for(repository.store))
    with closing(parallel_map(load, batched(enumerate(records), BATCH), threads)) as counts:
        for count in counts:
            progress.advance(count)
    return images


def _kind(prep: Preprocessing) -> str:
    return "-".join((prep.planes, prep.clumps, prep.equalisation, str(prep.size), _METHOD))


def read_image(repository: DataRepository, record: ImageRecord) -> Image.Image:
    """Read an image of a data version as a picture.

    Raises:
        ImageError: naming the image, if it cannot be decoded.
        IntegrityError: if the store has lost or altered it.
    """
    try:
        return read(repository.image(record), max_pixels=_MAX_PIXELS)
    except ImageError as error:
        raise ImageError(error.reason, f"{record.path}: {error}") from error


def _allocate(shape: tuple[int, int, int, int], cache: Path) -> NDArray[np.uint8]:
    length = int(np.prod(shape))
    if length <= _IN_MEMORY_BYTES:
        return np.empty(shape, np.uint8)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache) as file:
            # Taken now: a disk that fills up under a mapping kills the process instead of raising.
            os.posix_fallocate(file.fileno(), 0, length)
            return np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise _cache_error(cache, error) from error


def _path(folder: Path, sha256: str) -> Path:
    return folder / sha256[:2] / f"{sha256}.rgb"


def _fill(target: NDArray[np.uint8], folder: Path, sha256: str) -> bool:
    """Copy an image from the cache; False if it is not there, or not whole."""
    path = _path(folder, sha256)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _cache_error(path, error) from error
    pixels = data[_CHECKSUM_BYTES:]
    if len(pixels) != target.size or zlib.crc32(pixels).to_bytes(_CHECKSUM_BYTES, "little") != data[:_CHECKSUM_BYTES]:
        return False
    target[:] = np.frombuffer(pixels, np.uint8).reshape(target.shape)
    return True


def _keep(image: NDArray[np.uint8], folder: Path, sha256: str) -> None:
    path = _path(folder, sha256)
    pixels = image.tobytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            try:
                file.write(zlib.crc32(pixels).to_bytes(_CHECKSUM_BYTES, "little") + pixels)
                file.close()
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise _cache_error(path, error) from error


def _cache_error(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: {error.strerror}; free some space or mend the permissions of the cache")
