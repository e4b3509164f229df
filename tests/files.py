"""Every kind of image file that a microscope, a colleague or a broken disk may leave behind."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

RGB = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def picture(seed):
    return Image.fromarray(np.roll(RGB, seed, axis=1))


def bomb():
    """A PNG file of 60,000 x 60,000 pixels in 200 bytes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


READ: dict[str, Callable[[], bytes]] = {
    "plain.png": lambda: encoded(picture(0), "PNG"),
    "plain.jpg": lambda: encoded(picture(1), "JPEG"),
    "plain.bmp": lambda: encoded(picture(2), "BMP"),
    "capitals.TIFF": lambda: encoded(picture(3), "TIFF"),
    "grey.png": lambda: encoded(picture(4).convert("L"), "PNG"),
    "bits16.png": lambda: encoded(Image.fromarray(RGB[..., 0].astype(np.uint16) * 200), "PNG"),
    "bits16.tif": lambda: encoded(Image.fromarray(RGB[..., 1].astype(np.uint16) * 16), "TIFF"),
    "float.tif": lambda: encoded(Image.fromarray(RGB[..., 2].astype(np.float32) / 255), "TIFF"),
    "cmyk.jpg": lambda: encoded(picture(5).convert("CMYK"), "JPEG"),
    "cmyk.tif": lambda: encoded(picture(6).convert("CMYK"), "TIFF"),
    "palette.png": lambda: encoded(picture(7).quantize(64), "PNG"),
    "rgba.png": lambda: encoded(picture(8).convert("RGBA"), "PNG"),
    "pages.tif": lambda: encoded(picture(9), "TIFF", save_all=True, append_images=[picture(10), picture(11)]),
    "named.png": lambda: encoded(picture(12), "JPEG"),
}

QUARANTINED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "zero.png": ("empty", lambda: b""),
    "zero too.png": ("empty", lambda: b""),
    "text.png": ("unreadable", lambda: b"<html>404 Not Found</html>"),
    "corrupt.png": ("unreadable", lambda: encoded(picture(0), "PNG")[:30] + bytes(300)),
    "cut.png": ("truncated", lambda: encoded(picture(0), "PNG")[:3000]),
    "cut.jpg": ("truncated", lambda: encoded(picture(0), "JPEG")[:-500]),
    "cut.tif": ("truncated", lambda: encoded(picture(0), "TIFF", compression="tiff_lzw")[:2000]),
    "dot.png": ("too_small", lambda: encoded(Image.new("RGB", (1, 1), (90, 90, 90)), "PNG")),
    "bomb.png": ("too_large", bomb),
    "lamp off.png": ("underexposed", lambda: encoded(Image.new("L", (64, 64), 2), "PNG")),
    "lamp on.png": ("overexposed", lambda: encoded(Image.new("L", (64, 64), 254), "PNG")),
    "empty well.png": ("blank", lambda: encoded(Image.new("L", (64, 64), 120), "PNG")),
    "~again.png": ("duplicate", READ["plain.png"]),
}
