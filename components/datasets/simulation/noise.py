"""Random fields of a given grain."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Field = NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> Field:
    """Draw a Gaussian random field of mean 0 and standard deviation about 1.

    Args:
        rng: Source of all chance.
        shape: Height and width, pixels.
        grain: Standard deviation of the smoothing kernel, pixels; coarse fields are drawn small and
            enlarged, so that their cost does not grow with the grain.
    """
    step = max(1, int(grain / 1.6))
    small = (shape[0] // step + 2, shape[1] // step + 2)
    sigma = grain / step
    # The margin keeps the borders of the image as varied as its middle.
    margin = int(2 * sigma) + 1
    white = rng.standard_normal((small[0] + 2 * margin, small[1] + 2 * margin), dtype=np.float32)
    field = ndimage.gaussian_filter(white, sigma, truncate=3.0)[margin:-margin, margin:-margin]
    # Smoothing with a Gaussian leaves white noise with this standard deviation.
    field = np.asarray(field * (2.0 * np.sqrt(np.pi) * sigma), np.float32)
    if step == 1:
        return field[: shape[0], : shape[1]]
    return enlarge(field, (small[0] * step, small[1] * step))[: shape[0], : shape[1]]


def enlarge(field: Field, shape: tuple[int, int]) -> Field:
    """Interpolate a field to a larger shape (bicubic)."""
    resized = Image.fromarray(field).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.array(resized, np.float32)


def blur(field: Field, sigma: float) -> Field:
    """Smooth with a Gaussian; wide kernels work on a reduced field, where they cost little."""
    step = int(sigma / 2.0)
    if step < 2:
        return np.asarray(ndimage.gaussian_filter(field, sigma, truncate=3.0), np.float32)
    height, width = field.shape
    small = Image.fromarray(field).resize((max(1, width // step), max(1, height // step)), Image.Resampling.BOX)
    smooth = ndimage.gaussian_filter(np.asarray(small, np.float32), sigma / step, truncate=3.0)
    return enlarge(smooth, field.shape)
