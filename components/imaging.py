"""Image bytes to model input, with NumPy and Pillow alone: the same code in training and in serving.

Whatever a microscope or a scanner writes becomes 8-bit RGB: 16-bit and floating-point grey levels are
stretched between percentiles, palettes and CMYK are converted, EXIF rotation is applied, an alpha
channel is dropped, and of a multi-page TIFF the first page is taken.
"""

import io
import struct
import zlib
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from components.clumps import without_clumps
from components.equalisation import equalise, equalise_locally
from components.errors import ImageError
from components.formats import FORMATS, Clumps, Equalisation, Planes
from components.structure import check_structure

MAX_PIXELS = 200_000_000
STRETCH_PERCENTILES = (0.2, 99.8)
_ROWS = 64
TEXTURE_SIDE = 512
TEXTURE_WINDOWS = (5, 17)

# Pillow's own limit warns at one size and raises at another; read() checks the header against one
# limit that the caller chooses.
Image.MAX_IMAGE_PIXELS = None

Channels = tuple[float, float, float]
# An RGB image: an array of shape (height, width, 3), or a picture in the mode RGB.
Pixels = NDArray[np.uint8] | Image.Image
_Positive = Annotated[float, Field(gt=0)]

# What Pillow's readers raise on damaged files, beside OSError.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError, struct.error, zlib.error)
_CUT_SHORT = ("truncated", "unexpected end", "not enough", "premature", "decoder error -2", "buffer")


class Preprocessing(BaseModel):
    """How decoded images become the network's input.

    Attributes:
        size: Side, in pixels, of the square that images are resized to.
        mean: Per channel (RGB), subtracted after scaling to 0..1.
        std: Per channel (RGB), divided by after subtracting the mean.
        equalisation: Whether the histogram of brightness is equalised, as a whole (``equalise``) or tile by tile
            with a limit (``clahe``); see ``components.equalisation``.
        planes: What the three channels are: ``rgb``, or ``texture`` as ``texture`` gives it.
        clumps: Whether dark clumps are masked out first; see ``components.clumps``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(300, ge=1, le=4096)
    mean: Channels = (0.5, 0.5, 0.5)
    std: tuple[_Positive, _Positive, _Positive] = (0.5, 0.5, 0.5)
    equalisation: Equalisation = "none"
    planes: Planes = "rgb"
    clumps: Clumps = "kept"


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode one image file; see ``read``.

    Returns:
        RGB, shape (height, width, 3).

    Raises:
        ImageError: as ``read`` does.
    """
    return np.array(read(data, max_pixels=max_pixels))


def read(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image file (JPEG, PNG, BMP or TIFF) into an upright picture in RGB.

    Copying its pixels into an array takes as long as shrinking it, and holds Python's lock; who only shrinks it
    goes on with the picture.

    Args:
        data: The file's bytes.
        max_pixels: Images with more pixels are refused by their header, before any memory is taken.

    Raises:
        ImageError: with the reason ``empty``, ``unreadable``, ``unsupported``, ``too_large`` or ``truncated``.
    """
    if not data:
        raise ImageError("empty", "the image file has 0 bytes; export it again")
    check_structure(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise _unidentified(data) from error
    except _DAMAGE as error:
        raise _damage(error) from error
    with image:
        _check_size(image, max_pixels)
        try:
            return _to_rgb(image)
        except _DAMAGE as error:
            raise _damage(error) from error


def as_picture(image: Pixels) -> Image.Image:
    """Give an RGB image, shape (height, width, 3), as Pillow's; one that is Pillow's already stays."""
    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def resize(image: Pixels, size: int) -> NDArray[np.uint8]:
    """Squash an RGB image into a square, antialiased; shares of its area keep their value.

    Args:
        image: Shape (height, width, 3), or a picture.
        size: Side of the square in pixels.

    Returns:
        Shape (size, size, 3).
    """
    picture = as_picture(image)
    if picture.size == (size, size):
        return np.array(image)
    return np.array(picture.resize((size, size), Image.Resampling.BILINEAR))


def texture(image: Pixels) -> NDArray[np.uint8]:
    """Show where cells are: three planes of local contrast in place of red, green and blue.

    Cells differ from the bare floor in their fine structure, not in their brightness, and shrinking a
    picture to a network's input wipes that structure out. So it is measured before: the standard
    deviation of grey levels in a small window, as PHANTAST does for phase contrast (Jaccard et al.,
    Biotechnology and Bioengineering, 2014), here on a logarithmic scale and left to the network to judge.

    Args:
        image: RGB, shape (height, width, 3), or a picture; it is first shrunk to ``TEXTURE_SIDE`` on its longer side.

    Returns:
        Planes: contrast in ``TEXTURE_WINDOWS[0]`` relative to the picture's smoothest parts, the same as it
        is, and contrast in ``TEXTURE_WINDOWS[1]``; shape (height, width, 3) of the shrunk image.
    """
    grey = as_picture(image).convert("L")
    if (longer := max(grey.size)) > TEXTURE_SIDE:
        width, height = (max(1, round(side * TEXTURE_SIDE / longer)) for side in grey.size)
        grey = grey.resize((width, height), Image.Resampling.BOX)
    levels = np.asarray(grey, dtype=np.float64)
    fine, coarse = (np.log2(_local_deviation(levels, window) + 0.5) for window in TEXTURE_WINDOWS)
    floor = np.quantile(fine, 0.02)
    planes = np.stack([48 * (fine - floor), 32 * (fine + 1), 32 * (coarse + 1)], axis=-1)
    result: NDArray[np.uint8] = np.clip(planes, 0, 255).astype(np.uint8)
    return result


def arrange(image: Pixels, prep: Preprocessing) -> NDArray[np.uint8]:
    """Turn a decoded image into what the network's channels are to show, at its size.

    Args:
        image: RGB, shape (height, width, 3), or a picture.
        prep: Its ``clumps``, ``equalisation``, ``planes`` and ``size`` are applied, in this order.

    Returns:
        Shape (size, size, 3).
    """
    if prep.clumps == "masked":
        image = without_clumps(np.asarray(image))
    if prep.equalisation != "none":
        levels = np.asarray(image)
        image = equalise(levels) if prep.equalisation == "equalise" else equalise_locally(levels)
    return resize(texture(image) if prep.planes == "texture" else image, prep.size)


def normalise(batch: NDArray[np.uint8], prep: Preprocessing) -> NDArray[np.float32]:
    """Turn resized RGB images into the network's input.

    Args:
        batch: Shape (N, S, S, 3).
        prep: Its mean and standard deviation are applied to values scaled to 0..1.

    Returns:
        Contiguous, shape (N, 3, S, S).
    """
    count, height, width, channels = batch.shape
    out = np.empty((count, channels, height, width), np.float32)
    for channel, (mean, std) in enumerate(zip(prep.mean, prep.std, strict=True)):
        # In the steps in which training takes them on the processor, so that not even a last bit differs.
        np.divide(batch[..., channel], np.float32(255), out=out[:, channel])
        out[:, channel] -= np.float32(mean)
        out[:, channel] /= np.float32(std)
    return out


def preprocess(data: bytes, prep: Preprocessing, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Decode, arrange and normalise one image file.

    Returns:
        Shape (3, S, S).

    Raises:
        ImageError: as ``read`` does.
    """
    batch = arrange(read(data, max_pixels=max_pixels), prep)[np.newaxis]
    image: NDArray[np.float32] = normalise(batch, prep)[0]
    return image


def probabilities(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Give the softmax of logits divided by a temperature.

    Args:
        logits: Shape (N, K).
        temperature: Above 0; above 1 it flattens, below 1 it sharpens.

    Returns:
        Shape (N, K); each row sums to 1.
    """
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


def _local_deviation(levels: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    mean = _box_mean(levels, window)
    deviation: NDArray[np.float64] = np.sqrt(np.maximum(_box_mean(levels * levels, window) - mean * mean, 0))
    return deviation


def _box_mean(levels: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over a square around each pixel, from running sums: the cost does not grow with the window."""
    for axis in (0, 1):
        before, after = (window // 2 + 1, window // 2)
        widths = [(before, after) if each == axis else (0, 0) for each in (0, 1)]
        sums = np.cumsum(np.pad(levels, widths, mode="edge"), axis=axis)
        upper = sums[window:] if axis == 0 else sums[:, window:]
        lower = sums[:-window] if axis == 0 else sums[:, :-window]
        levels = (upper - lower) / window
    return levels


def _check_size(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageError(
            "too_large",
            f"the image is {image.width} x {image.height} pixels, more than the {max_pixels} that may be decoded; "
            "scale it down or raise max_pixels",
        )
    if pixels == 0:
        raise ImageError("unreadable", f"the image is {image.width} x {image.height} pixels; export it again")


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    # In place, because it copies what needs no rotation otherwise.
    ImageOps.exif_transpose(image, in_place=True)
    upright = image
    if upright.mode.startswith("I") or upright.mode == "F":
        grey = _stretch(np.array(upright, np.float32), least_span=0.0 if upright.mode == "F" else 255.0)
        return Image.merge("RGB", [Image.fromarray(grey)] * 3)
    if "transparency" in upright.info:
        # Pillow warns when it goes from a transparent palette to RGB in one step.
        upright = upright.convert("RGBA")
    # Alpha is dropped, not blended: exporters that leave it at zero still write the picture.
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def _stretch(grey: NDArray[np.float32], least_span: float) -> NDArray[np.uint8]:
    """Map grey levels between two percentiles to 0..255, and change ``grey`` on the way.

    Args:
        grey: Shape (height, width).
        least_span: Levels between the percentiles, at least; it keeps mere noise from being amplified.
    """
    np.nan_to_num(grey, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(grey, STRETCH_PERCENTILES)
    span = max(float(high - low), least_span) or 1.0
    levels = np.empty(grey.shape, np.uint8)
    # By rows, because the numbers on the way take eight times the memory of the levels.
    for start in range(0, len(grey), _ROWS):
        rows = grey[start : start + _ROWS]
        levels[start : start + _ROWS] = np.clip((rows - low) * (255.0 / span) + 0.5, 0, 255)
    return levels


def _unidentified(data: bytes) -> ImageError:
    if data[:4] in (b"II*\0", b"MM\0*"):
        order = "<" if data[:2] == b"II" else ">"
        if len(data) < 8 or struct.unpack(f"{order}I", data[4:8])[0] >= len(data):
            return ImageError("truncated", "the TIFF file ends before its directory; copy or export it again")
        return ImageError("unsupported", "the TIFF file's directory is damaged or unusual; save it as 8-bit RGB")
    return ImageError("unreadable", f"the file is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image")


def _damage(error: Exception) -> ImageError:
    text = str(error).lower()
    if any(words in text for words in _CUT_SHORT):
        return ImageError("truncated", f"the image is cut short ({error}); copy or export it again")
    if "conversion" in text or "not available" in text or "unsupported" in text:
        return ImageError("unsupported", f"the image's pixel format cannot be read ({error}); save it as 8-bit RGB")
    return ImageError("unreadable", f"the image is damaged ({error}); export it again")
