"""Every kind of file that a microscope, a colleague or a broken disk may leave among the images."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from components.culture import Modality
from components.datasets import steps
from components.datasets.arrays import load_arrays
from components.datasets.versions import DataRepository
from components.errors import DataError
from components.imaging import Preprocessing
from components.settings import DataSettings
from components.storage import open_store

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


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "mixed"
    files = READ | {name: data for name, (_, data) in QUARANTINED.items()}
    for number, (name, data) in enumerate(files.items()):
        place = folder / ("1" if "plain" in name or "again" in name else str(number % 4 + 1))
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data())
    return folder


def test_what_can_be_read_is_and_the_rest_is_quarantined_and_both_are_counted(source, tmp_path):
    store, home = str(tmp_path / "store"), tmp_path / "home"
    taken = steps.snapshot(str(source), store, DataSettings(), Modality.SINGLE_STACK, home)
    assert (taken["images"], taken["left_out"]) == (len(READ) + len(QUARANTINED), {})
    valid = steps.validate(store, taken["data_version"], DataSettings(), home)
    found = {finding["path"].rpartition("/")[2]: finding["reason"] for finding in valid["findings"]}
    assert found == {name: reason for name, (reason, _) in QUARANTINED.items()}
    assert valid["accepted"] == len(READ)
    assert sum(valid["quarantined"].values()) == len(QUARANTINED)
    assert all("\n" not in finding["message"] for finding in valid["findings"])

    repository = DataRepository(open_store(store))
    records = list(repository.records(valid["data_version"]))
    images = load_arrays(repository, records, Preprocessing(size=32), home / "cache")
    assert images.shape == (len(READ), 32, 32, 3)
    assert (images.std(axis=(1, 2, 3)) > 10).all()


def test_nothing_but_garbage_is_an_error_that_counts_it(tmp_path):
    for label, (name, (_, data)) in enumerate(list(QUARANTINED.items())[:4], start=1):
        (tmp_path / "bad" / str(label)).mkdir(parents=True)
        (tmp_path / "bad" / str(label) / name).write_bytes(data())
    store, home = str(tmp_path / "store"), tmp_path / "home"
    taken = steps.snapshot(str(tmp_path / "bad"), store, DataSettings(), Modality.SINGLE_STACK, home)
    with pytest.raises(DataError, match=r"no image can be used \(2 empty, 2 unreadable; first 1/zero\.png"):
        steps.validate(store, taken["data_version"], DataSettings(), home)
