"""Dark clumps of dead cells in multi-layer flasks: where they are, and a picture without them.

A clump swallows light over an area larger than a cell, in stacked flasks also when it lies in another
layer. Whether it disturbs a classifier is an open question of the study (PAPER: open questions), so that
it can be taken out. NumPy and Pillow alone, because serving would have to do the same.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

# The longer side, in pixels, that clumps are looked for at: cells are blurred away there, clumps are not.
SIDE = 256
# Standard deviations of the blurs that leave clumps, and that leave the light alone.
_CLUMP_BLUR, _LIGHT_BLUR = 2.5, 40.0
# Share of the light around it that passes the core of a clump at most, and its shadow near the core. Cells
# are not as dark as a core.
CORE, SHADOW = 0.64, 0.85
# How far from a core its shadow is looked for, and by what its soft edge is widened, in pixels.
_REACH, _EDGE = 15, 5


def clump_mask(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find dark clumps.

    Args:
        image: RGB, shape (height, width, 3).

    Returns:
        Shape (height, width).
    """
    dark = _find(_small(Image.fromarray(image)))
    full = Image.fromarray(np.where(dark, 255, 0).astype(np.uint8)).resize(
        (image.shape[1], image.shape[0]), Image.Resampling.BILINEAR
    )
    mask: NDArray[np.bool_] = np.asarray(full) > 127
    return mask


def without_clumps(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace dark clumps by the mean colour around them; a picture without any stays as it is.

    Args:
        image: RGB, shape (height, width, 3).
    """
    picture = Image.fromarray(image)
    small = _small(picture)
    dark = _find(small)
    if not dark.any() or dark.all():
        return image
    keep = _blurred(np.where(dark, 0.0, 1.0), _LIGHT_BLUR / 4)
    rest = np.asarray(small, np.float64)[~dark].mean(axis=0)
    planes = []
    for channel in range(3):
        levels = np.where(dark, 0.0, np.asarray(small, np.float64)[..., channel])
        # Deep inside a large clump nothing around it is near, and the picture's mean has to do.
        around = (_blurred(levels, _LIGHT_BLUR / 4) + 0.01 * rest[channel]) / (keep + 0.01)
        planes.append(around.clip(0, 255).round().astype(np.uint8))
    filling = Image.fromarray(np.stack(planes, axis=-1)).resize(picture.size, Image.Resampling.BILINEAR)
    result: NDArray[np.uint8] = np.where(clump_mask(image)[..., np.newaxis], np.asarray(filling), image)
    return result


def _small(picture: Image.Image) -> Image.Image:
    scale = min(1.0, SIDE / max(picture.size))
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX)


def _find(small: Image.Image) -> NDArray[np.bool_]:
    levels = np.asarray(small.convert("L"), np.float64)
    ratio = _blurred(levels, _CLUMP_BLUR) / np.maximum(_blurred(levels, _LIGHT_BLUR), 1.0)
    near = _grown(ratio < CORE, _REACH)
    return _grown(near & (ratio < SHADOW), _EDGE)


def _grown(mask: NDArray[np.bool_], window: int) -> NDArray[np.bool_]:
    picture = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
    grown: NDArray[np.bool_] = np.asarray(picture.filter(ImageFilter.MaxFilter(window))) > 0
    return grown


def _blurred(levels: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Blur with three box means, which come close to a Gaussian; the edge goes on as its mirror image."""
    window = 2 * max(1, round(radius)) + 1
    reach = 3 * (window // 2)
    padded = np.pad(levels, [(min(reach, side - 1),) * 2 for side in levels.shape], mode="reflect")
    blurred = padded
    for _ in range(3):
        for axis in (0, 1):
            blurred = _mean_along(blurred, window, axis)
    rows, columns = (min(reach, side - 1) for side in levels.shape)
    result: NDArray[np.float64] = blurred[rows : rows + levels.shape[0], columns : columns + levels.shape[1]]
    return result


def _mean_along(levels: NDArray[np.float64], window: int, axis: int) -> NDArray[np.float64]:
    widths = [(window // 2 + 1, window // 2) if each == axis else (0, 0) for each in (0, 1)]
    sums = np.cumsum(np.pad(levels, widths, mode="edge"), axis=axis)
    upper = sums[window:] if axis == 0 else sums[:, window:]
    lower = sums[:-window] if axis == 0 else sums[:, :-window]
    result: NDArray[np.float64] = (upper - lower) / window
    return result
