"""Of how many parts an image file may be built.

Its pixels alone do not say how long a file takes to decode. A JPEG of 200 kB may paint the same 49 million pixels
300 times over; a PNG or TIFF may hold a million parts that each cost a step of Python. Such files are no pictures,
but one of them could keep a processor busy for hours. The bounds are far above what any writer of images does.
"""

import struct

from components.errors import ImageError

SCANS = 50  # of a JPEG; a progressive one has about ten
SEGMENTS = 1000  # of a JPEG before its pixels; a colour profile has up to 255
CHUNKS = 500  # of a PNG beside its pixels
PIXEL_CHUNKS = 65_536  # of a PNG with pixels; 500 MB in chunks of the usual size
ENTRIES = 1024  # of a TIFF's directory
VALUES = 65_536  # of one entry, such as the places of strips

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
_BYTES = (1, 2, 6, 7)  # types of TIFF entries whose values are read as one string
_COMPRESSION, _STRIPS, _TILES = 259, 273, 324
_START_OF_SCAN = b"\xff\xda"
_BASELINE = (b"\xff\xc0", b"\xff\xc1")


def check_structure(data: bytes) -> None:
    """Check a file before it is decoded; what is no image file at all is left for the decoder to say.

    Raises:
        ImageError: ``unsupported``, if it has more parts than a picture needs.
    """
    if data.startswith(_PNG):
        _check_png(data)
    elif data.startswith(b"\xff\xd8"):
        if _has_several_scans(data):
            _check_scans(data, SCANS)
    elif data.startswith(_TIFF):
        _check_tiff(data)


def _check_png(data: bytes) -> None:
    at, seen = len(_PNG), {"pixels": 0, "others": 0, "profiles": 0}
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        seen["pixels" if kind in (b"IDAT", b"fdAT") else "others"] += 1
        seen["profiles"] += kind == b"iCCP"
        if seen["pixels"] > PIXEL_CHUNKS or seen["others"] > CHUNKS or seen["profiles"] > 1:
            raise _too_many("the PNG", "chunks")
        if kind == b"eXIf":
            _check_tiff(data[at + 8 : at + 8 + length])
        at += 12 + length


def _check_scans(data: bytes, most: int) -> None:
    # Within a scan this pair of bytes cannot occur; a thumbnail's scan may count, too.
    if data.count(_START_OF_SCAN) > most:
        raise _too_many("the JPEG", "scans")


def _has_several_scans(data: bytes) -> bool:
    """Walk over what stands before a JPEG's pixels, and say whether they may be painted more than once."""
    at, once = 2, b""
    for _ in range(SEGMENTS):
        marker = data[at : at + 2]
        if len(marker) < 2:
            return False
        if marker == _START_OF_SCAN:
            return data[at + 4 : at + 5] != once
        if marker in _BASELINE:
            once = data[at + 9 : at + 10]  # one scan of as many colours as the picture has
        if marker in (b"\xff\xff", b"\0\0"):
            at += 1
        elif marker[1] == 1 or 0xD0 <= marker[1] <= 0xD9:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise _too_many("the JPEG", "segments")


def _check_tiff(data: bytes) -> None:
    little, big = data.startswith(b"II"), b"+" in data[2:4]
    order = "<" if little else ">"
    entry, size = (f"{order}HHQ", 20) if big else (f"{order}HHI", 12)
    values = {}
    try:
        (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
        (entries,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, at)
        if entries > ENTRIES:
            raise _too_many("the TIFF", "entries")
        for index in range(entries):
            place = at + (8 if big else 2) + index * size
            tag, kind, count = struct.unpack_from(entry, data, place)
            if count > VALUES and kind not in _BYTES:
                raise _too_many("the TIFF", "strips, tiles or other values")
            first = data[place + (12 if big else 8) : place + (14 if big else 10)]
            values[tag] = count, int.from_bytes(first, "little" if little else "big")
    except struct.error:
        return  # it is cut short, which the decoder says better
    if values.get(_COMPRESSION, (1, 1))[1] in (6, 7):  # JPEG, piece by piece
        pieces = max(values.get(tag, (1, 0))[0] for tag in (_STRIPS, _TILES))
        _check_scans(data, SCANS * pieces)


def _too_many(what: str, parts: str) -> ImageError:
    return ImageError(
        "unsupported", f"{what} has more {parts} than a picture needs; save it again with an image editor"
    )
