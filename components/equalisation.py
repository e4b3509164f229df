"""Histogram equalisation of brightness, for the faint pictures of multi-layer flasks (PAPER: Tasks).

NumPy and Pillow alone, because serving does the same as training. What changes is the brightness; red,
green and blue keep their distances from it, as in YCbCr.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Tiles across and down, and how often a level may occur in a tile, as a multiple of its even share.
TILES = 8
CLIP = 2.0

_Levels = NDArray[np.uint8]


def equalise(image: _Levels) -> _Levels:
    """Spread the brightness of a picture evenly over all levels.

    Args:
        image: RGB, shape (height, width, 3).

    Returns:
        The same shape; a picture of a single level stays as it is.
    """
    return _with_brightness(image, _spread)


def equalise_locally(image: _Levels) -> _Levels:
    """Spread it tile by tile, with a limit on contrast: CLAHE (Zuiderveld, Graphics Gems IV, 1994).

    Each of ``TILES`` by ``TILES`` tiles has a mapping of its own, between whose centres pixels are
    mapped in proportion. The limit ``CLIP`` keeps noise on an empty floor from being blown up.

    Args:
        image: RGB, shape (height, width, 3).

    Returns:
        The same shape.
    """
    return _with_brightness(image, _spread_locally)


def _with_brightness(image: _Levels, change: Callable[[_Levels], _Levels]) -> _Levels:
    brightness = np.asarray(Image.fromarray(image).convert("L"))
    shift = change(brightness).astype(np.int16) - brightness
    result = np.empty_like(image)
    for channel in range(3):
        result[..., channel] = (image[..., channel] + shift).clip(0, 255)
    return result


def _spread(levels: _Levels) -> _Levels:
    below = np.bincount(levels.ravel(), minlength=256).cumsum()
    darkest = below[levels.min()]
    if below[-1] == darkest:
        return levels
    mapping: _Levels = np.rint((below - darkest).clip(0) * (255 / (below[-1] - darkest))).astype(np.uint8)
    return mapping[levels]


def _spread_locally(levels: _Levels) -> _Levels:
    height, width = levels.shape
    down, across = -(-height // TILES), -(-width // TILES)
    padded = np.pad(levels, ((0, down * TILES - height), (0, across * TILES - width)), mode="symmetric")
    mappings = np.empty((TILES, TILES, 256), np.float32)
    for row, column in np.ndindex(TILES, TILES):
        tile = padded[row * down : (row + 1) * down, column * across : (column + 1) * across]
        mappings[row, column] = _limited(tile)
    result = np.empty_like(levels)
    for rows, up, low, of_low in _bands(height, down):
        for columns, left, right, of_right in _bands(width, across):
            part = levels[rows, columns]
            upper = _between(mappings[up, left][part], mappings[up, right][part], of_right)
            lower = _between(mappings[low, left][part], mappings[low, right][part], of_right)
            result[rows, columns] = np.rint(_between(upper, lower, of_low[:, np.newaxis]))
    return result


def _limited(tile: _Levels) -> NDArray[np.float32]:
    """Give the mapping (256,) of one tile: its cumulated levels, none counted beyond the limit."""
    counts = np.bincount(tile.ravel(), minlength=256).astype(np.float32)
    limit = CLIP * tile.size / 256
    kept = np.minimum(counts, limit)
    mapping: NDArray[np.float32] = (kept + (tile.size - kept.sum()) / 256).cumsum() * (255 / tile.size)
    return mapping.clip(0, 255)


def _bands(length: int, tile: int) -> Iterator[tuple[slice, int, int, NDArray[np.float32]]]:
    """Divide a side at the centres of its tiles: pixels, the tiles before and after, the weight of the latter."""
    for number in range(TILES + 1):
        start, end = (max(0, number * tile - tile // 2), min(length, (number + 1) * tile - tile // 2))
        if start >= end:
            continue
        places = np.arange(start, end, dtype=np.float32) + np.float32(0.5)
        weight = (places / tile - np.float32(number - 0.5)).clip(0, 1)
        yield slice(start, end), max(number - 1, 0), min(number, TILES - 1), weight


def _between(
    first: NDArray[np.float32], second: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    return first + (second - first) * weight
