"""Files that are small, have few pixels, and would take for ever."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from components.errors import ImageError
from components.imaging import decode
from components.structure import CHUNKS, PIXEL_CHUNKS, SCANS, SEGMENTS, VALUES, check_structure

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def encoded(form: str, **options: object) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(more: bytes) -> bytes:
    plain = encoded("PNG")
    return plain[:33] + more + plain[33:]  # behind the header


def jpeg_with(segments: bytes = b"", *, scans: int = 0) -> bytes:
    plain = encoded("JPEG", progressive=True)
    last = plain[plain.rindex(b"\xff\xda") : -2]
    return plain[:2] + segments + plain[2:-2] + last * scans + b"\xff\xd9"


def jpeg_by_colour(*, scans: int = 0) -> bytes:
    """A baseline JPEG that has one scan of each of its three colours."""
    plain = encoded("JPEG", subsampling=0)
    at = plain.index(b"\xff\xda")
    parts = [b"\xff\xda\0\x08\x01" + bytes((colour, 0, 0, 63, 0)) for colour in (1, 2, 3)]
    return plain[:at] + b"".join(parts) + parts[-1] * scans + b"\xff\xd9"


def tiff(order: str, entries: list[tuple[int, int, int, int]], *, big: bool = False, rest: bytes = b"") -> bytes:
    magic = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    start = struct.pack(f"{order}HHQQ", 8, 0, 16, len(entries)) if big else struct.pack(f"{order}IH", 8, len(entries))
    form = f"{order}HHQQ" if big else f"{order}HHII"
    return magic + start + b"".join(struct.pack(form, *each) for each in entries) + bytes(8) + rest


PROFILE = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(900_000)))
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: jpeg_with(scans=100_000), "JPEG has more scans"),
    "scans of a colour each": (lambda: jpeg_by_colour(scans=100_000), "JPEG has more scans"),
    "segments": (lambda: jpeg_with(b"\xff\xe1\0\2" * 1_000_000), "JPEG has more segments"),
    "fill bytes": (lambda: jpeg_with(b"\xff" * 4_000_000), "JPEG has more segments"),
    "chunks": (lambda: png_with(chunk(b"aaAa") * 400_000), "PNG has more chunks"),
    "empty pixel chunks": (lambda: png_with(chunk(b"IDAT") * 400_000), "PNG has more chunks"),
    "profiles": (lambda: png_with(PROFILE * 2), "PNG has more chunks"),
    "entries": (lambda: tiff("<", [(40_000, 4, 1, 1)] * 300_000, big=True), "TIFF has more entries"),
    "entries in a PNG": (
        lambda: png_with(chunk(b"eXIf", tiff(">", [(40_000, 4, 1, 1)] * 300_000, big=True))),
        "TIFF has more entries",
    ),
    "strips": (lambda: tiff("<", [(273, 4, 500_000, 100)]), "TIFF has more strips"),
    "tiles": (lambda: tiff(">", [(324, 4, 500_000, 100)]), "TIFF has more strips"),
    "scans in a TIFF": (
        lambda: tiff("<", [(259, 3, 1, 7), (273, 4, 2, 100)], rest=b"\xff\xda" * 101),
        "JPEG has more scans",
    ),
    "scans in a big TIFF": (
        lambda: tiff(">", [(259, 3, 1, 7 << 48)], big=True, rest=b"\xff\xda" * 51),
        "JPEG has more scans",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_of_more_parts_than_a_picture_needs_is_refused_before_it_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, message = BOMBS[name]
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match=message) as caught:
        decode(make())
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize(
    "data",
    [
        encoded("PNG"),
        encoded("JPEG"),
        encoded("JPEG", progressive=True),
        encoded("TIFF"),
        encoded("TIFF", big_tiff=True),
        encoded("TIFF", compression="jpeg"),
        encoded("TIFF", compression="tiff_lzw", strip_size=192),
        encoded("BMP"),
        jpeg_with(b"\xff\xe2\0\2" * (SEGMENTS // 2) + b"\xff" * 5, scans=SCANS // 2),
        png_with(chunk(b"aaAa") * (CHUNKS // 2)),
        png_with(chunk(b"eXIf", tiff(">", [(274, 3, 1, 1 << 16)]))),
    ],
)
def test_what_is_built_as_pictures_are_is_decoded(data: bytes) -> None:
    assert decode(data).shape == (64, 64, 3)


def test_a_large_picture_in_the_smallest_usual_pieces_is_taken() -> None:
    check_structure(png_with(chunk(b"IDAT", bytes(10)) * (PIXEL_CHUNKS - 1)))
    check_structure(tiff("<", [(273, 4, VALUES, 100), (700, 1, 10_000_000, 100)]))


@pytest.mark.parametrize("start", [encoded("PNG"), encoded("JPEG"), encoded("TIFF"), encoded("TIFF", big_tiff=True)])
def test_what_is_cut_short_is_left_to_the_decoder(start: bytes) -> None:
    for length in range(0, 300, 3):
        check_structure(start[:length])
