"""Image files that are damaged, absurd, or made to hurt; and some that are only unusual."""

import random
import struct
import zlib

import numpy as np
from PIL import Image

from tests.files import QUARANTINED, READ, encoded, picture
from tests.fuzz.damage import damaged

SIDES = (0, 1, 2, 7, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1)
PLAIN = {**READ, **{name: make for name, (_, make) in QUARANTINED.items()}}


def png(width, height, depth=8, colour=2, pixels=b"", extra=b"", interlace=0):
    """A PNG file with any header, and checksums that are right."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = ((b"IHDR", header), *([(extra[:4], extra[4:])] if extra else ()), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def any_png_header(rng):
    pixels = zlib.compress(rng.randbytes(rng.choice((0, 100, 10_000))))
    depth, colour = rng.choice((0, 1, 2, 4, 8, 16, 32, 255)), rng.choice((0, 1, 2, 3, 4, 6, 7, 255))
    return png(rng.choice(SIDES), rng.choice(SIDES), depth, colour, pixels, interlace=rng.choice((0, 1, 2)))


def many_pixels(rng):
    """More pixels than are taken, in a few bytes."""
    side = rng.choice((1_500, 20_000, 100_000))
    return png(side, side, pixels=zlib.compress(bytes(rng.choice((10, 100_000)))))


def inflating_chunk(rng):
    """A text or a colour profile of 200 MB in 200 kB."""
    packed = zlib.compress(bytes(rng.choice((1_000_000, 20_000_000))), 9)
    name = rng.choice((b"iCCPname\0\0", b"zTXtname\0\0", b"iTXtname\0\1\0\0\0"))
    return png(8, 8, pixels=zlib.compress(bytes(8 * 25)), extra=name + packed)


def too_much_data(rng):
    """A small picture whose pixels unpack to 20 MB."""
    return png(8, 8, pixels=zlib.compress(bytes(20_000_000), 9))


def bmp_header(rng):
    data = bytearray(encoded(picture(1), "BMP"))
    place = rng.choice((10, 14, 18, 22, 26, 28, 30, 34, 46))
    struct.pack_into("<I", data, place, rng.choice((*SIDES, 2**32 - 48, rng.randrange(40))))
    return bytes(data)


def jpeg_size(rng):
    data = bytearray(encoded(picture(1), "JPEG", progressive=rng.random() < 0.5))
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    struct.pack_into(">HH", data, frame + 5, rng.choice((0, 1, 48, 65_535)), rng.choice((0, 1, 64, 65_535)))
    return bytes(data)


def tiff_tag(rng):
    """A TIFF file with one field of its directory replaced."""
    compression = rng.choice((None, "tiff_lzw", "tiff_adobe_deflate", "packbits"))
    data = bytearray(encoded(picture(2), "TIFF", compression=compression))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entry = start + 2 + 12 * rng.randrange(count)
    part = rng.choice(("tag", "type", "count", "value", "next"))
    place = {"tag": entry, "type": entry + 2, "count": entry + 4, "value": entry + 8, "next": start + 2 + 12 * count}
    values = (*SIDES, start, 8, rng.randrange(70_000))
    form = "<H" if part in ("tag", "type") else "<I"
    struct.pack_into(form, data, place[part], rng.choice(values) % (2**16 if form == "<H" else 2**32))
    return bytes(data)


def pages(rng):
    more = [picture(number) for number in range(rng.choice((1, 20)))]
    return encoded(picture(0), "TIFF", save_all=True, append_images=more)


def rotated(rng):
    exif = Image.Exif()
    exif[0x0112] = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 65_535))
    return encoded(picture(3), rng.choice(("JPEG", "PNG", "TIFF")), exif=exif.tobytes())


def damaged_exif(rng):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "text"
    _, damage = damaged(rng, exif.tobytes()[6:])
    return encoded(picture(3), rng.choice(("JPEG", "PNG")), exif=b"Exif\0\0" + damage)


def narrow(rng):
    """One pixel wide or high, and very long the other way."""
    sides = [1, rng.choice((1, 2, 3, 1_000, 60_000))]
    rng.shuffle(sides)
    return encoded(Image.new(rng.choice(("L", "RGB", "1", "P")), sides, 90), rng.choice(("PNG", "BMP", "TIFF")))


def floats(rng):
    """A TIFF file of floating-point numbers, some of which are none."""
    values = np.random.default_rng(rng.randrange(2**32)).normal(0, 1e30, (30, 40)).astype(np.float32)
    values.flat[:: rng.choice((2, 7, 1))] = rng.choice((np.nan, np.inf, -np.inf, 3e38, 0))
    return encoded(Image.fromarray(values), "TIFF")


def depths(rng):
    """16 and 32 bits, in either byte order, of all ranges."""
    kind = rng.choice((np.uint16, np.int32, np.dtype(">u2")))
    levels = np.full((20, 30), rng.choice((0, 1, 300, 65_535)), kind)
    levels[: rng.randrange(20)] = rng.choice((0, 40, 65_535))
    return encoded(Image.fromarray(levels), rng.choice(("TIFF", "PNG")) if kind is np.uint16 else "TIFF")


def other_kinds(rng):
    """Files of kinds that Pillow reads and the endpoint does not."""
    form = rng.choice(("GIF", "WEBP", "PPM", "ICO", "TGA", "PCX", "PDF", "SGI"))
    return encoded(picture(1), form)


def two_in_one(rng):
    first, second = (PLAIN[rng.choice(list(PLAIN))]() for _ in range(2))
    place = rng.randrange(len(first) + 1)
    return first[:place] + second[rng.randrange(len(second) + 1) :]


MADE = (
    *(any_png_header, many_pixels, inflating_chunk, too_much_data, bmp_header, jpeg_size, tiff_tag, pages, rotated),
    *(damaged_exif, narrow, floats, depths, other_kinds, two_in_one),
)


def valid_images() -> list[bytes]:
    """Give a picture of each kind that is read."""
    return [make() for make in READ.values()]


def odd_image(rng: random.Random) -> tuple[str, bytes]:
    """Give the name of what is odd about an image file, and the file."""
    if rng.random() < 0.5:
        name = rng.choice(list(PLAIN))
        what, data = damaged(rng, PLAIN[name]())
        return f"{name.split('.')[-1].lower()}, {what}", data
    made = rng.choice(MADE)
    return made.__name__.replace("_", " "), made(rng)
