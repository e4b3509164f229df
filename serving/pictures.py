"""The images of a request, decoded within what one request may ask for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image

from components.errors import ImageError
from components.imaging import read
from serving.refusals import Refusal, TooLarge


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        image_bytes: Bytes of one encoded image.
        pixels: Pixels of one image; checked before it is decoded.
        images: Images of one request.
    """

    image_bytes: int
    pixels: int
    images: int

    @property
    def body_bytes(self) -> int:
        """Bytes of one request: a largest image as base64 text, and some room for what surrounds it."""
        return self.image_bytes * 4 // 3 + 65_536


def decode_within(image: bytes, limits: Limits) -> Image.Image:
    """Decode one image into a picture in RGB.

    Raises:
        Refusal: if it is too large or cannot be read.
    """
    if len(image) > limits.image_bytes:
        message = f"{len(image)} bytes are more than the {limits.image_bytes} that an image may have"
        raise TooLarge(message, reason="too_large")
    try:
        return read(image, max_pixels=limits.pixels)
    except ImageError as error:
        kind = TooLarge if error.reason == "too_large" else Refusal
        raise kind(str(error), reason=error.reason) from error


@contextmanager
def placed(index: int, count: int) -> Iterator[None]:
    """Say in a refusal which image it is about, where there are several."""
    try:
        yield
    except Refusal as refusal:
        if count == 1:
            raise
        raise type(refusal)(f"image {index + 1} of {count}: {refusal}", refusal.reason) from refusal
