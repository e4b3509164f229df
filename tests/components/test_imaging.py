import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms
from pydantic import ValidationError

from components.equalisation import equalise, equalise_locally
from components.errors import ImageError
from components.imaging import (
    Preprocessing,
    arrange,
    decode,
    normalise,
    preprocess,
    probabilities,
    read,
    resize,
    texture,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
GREY = PIXELS[..., 0]


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_header(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_lossless_colours_come_back_as_they_were(form):
    assert np.array_equal(decode(encoded(Image.fromarray(PIXELS), form)), PIXELS)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
def test_compressed_tiff(compression):
    assert np.array_equal(decode(encoded(Image.fromarray(PIXELS), "TIFF", compression=compression)), PIXELS)


def test_jpeg_is_close():
    smooth = np.repeat(np.linspace(0, 255, 90, dtype=np.uint8).reshape(1, 30, 3), 20, axis=0)
    smooth.sort(axis=1)
    assert np.abs(decode(encoded(Image.fromarray(smooth), "JPEG", quality=95)).astype(int) - smooth).mean() < 4


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_becomes_three_equal_channels(mode):
    result = decode(encoded(Image.fromarray(GREY).convert(mode)))
    assert np.array_equal(result, np.stack([GREY] * 3, axis=-1))


def test_one_bit_becomes_black_and_white():
    result = decode(encoded(Image.fromarray(GREY > 127)))
    assert np.array_equal(result[..., 1], np.where(GREY > 127, 255, 0))


def test_palette_with_transparency_keeps_its_colours():
    image = Image.fromarray(PIXELS).quantize(256)
    image.info["transparency"] = bytes(range(256))
    assert np.array_equal(decode(encoded(image)), np.array(image.convert("RGBA").convert("RGB")))


def test_the_picture_under_a_transparent_layer_is_kept():
    alpha = np.zeros((20, 30, 1), np.uint8)
    assert np.array_equal(decode(encoded(Image.fromarray(np.concatenate([PIXELS, alpha], axis=2)))), PIXELS)


def test_cmyk():
    image = Image.new("CMYK", (4, 3), (255, 0, 0, 0))
    assert decode(encoded(image, "TIFF"))[0, 0].tolist() == [0, 255, 255]


def test_lab():
    to_lab = {"inputProfile": ImageCms.createProfile("sRGB"), "outputProfile": ImageCms.createProfile("LAB")}
    red = ImageCms.profileToProfile(Image.new("RGB", (4, 3), (200, 30, 30)), **to_lab, outputMode="LAB")
    assert np.abs(decode(encoded(red, "TIFF"))[0, 0].astype(int) - (200, 30, 30)).max() < 12


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_stretched_over_the_whole_range(form):
    ramp = np.tile(np.linspace(1000, 9000, 500).astype(np.uint16), (40, 1))
    grey = decode(encoded(Image.fromarray(ramp), form))[..., 0]
    assert (grey[0, 0], grey[0, -1]) == (0, 255)
    assert abs(int(grey[0, 250]) - 128) <= 2
    assert (np.diff(grey.astype(int), axis=1) >= 0).all()


def test_the_noise_of_a_dark_sixteen_bit_frame_is_not_amplified():
    noise = np.random.default_rng(0).normal(200, 2, (64, 64)).astype(np.uint16)
    assert decode(encoded(Image.fromarray(noise))).std() < 4


def test_floating_point_with_gaps():
    ramp = np.tile(np.linspace(0, 0.01, 500, dtype=np.float32), (40, 1))
    ramp[5, 5] = np.nan
    grey = decode(encoded(Image.fromarray(ramp), "TIFF"))[..., 0]
    assert (grey[0, 0], grey[0, -1], grey[5, 5]) == (0, 255, 0)


def test_the_first_of_many_pages():
    pages = [Image.fromarray(PIXELS), Image.new("RGB", (5, 5)), Image.new("RGB", (7, 7))]
    assert np.array_equal(decode(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])), PIXELS)


def test_the_camera_s_rotation_is_undone():
    exif = Image.Exif()
    exif[0x0112] = 6  # the picture's top is the right-hand side: turn it clockwise
    rotated = decode(encoded(Image.fromarray(PIXELS), "PNG", exif=exif))
    assert np.array_equal(rotated, np.rot90(PIXELS, k=-1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"file,class\na.png,1\n", "unreadable"),
        (encoded(Image.fromarray(PIXELS).quantize(8), "GIF"), "unreadable"),
        (encoded(Image.fromarray(PIXELS))[:600], "truncated"),
        (encoded(Image.fromarray(PIXELS), "JPEG")[:-40], "truncated"),
        (encoded(Image.fromarray(PIXELS), "BMP")[:600], "truncated"),
        (encoded(Image.fromarray(PIXELS), "TIFF")[:600], "truncated"),
        (encoded(Image.fromarray(PIXELS), "TIFF", compression="tiff_lzw")[:600], "truncated"),
        (b"II*\0", "truncated"),
        (png_header(60_000, 60_000), "too_large"),
        (png_header(0, 10), "unreadable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_says_why(data, reason):
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_the_limit_counts_pixels():
    data = encoded(Image.fromarray(PIXELS))
    assert decode(data, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(ImageError, match="30 x 20 pixels, more than the 599"):
        decode(data, max_pixels=599)


def test_a_bomb_takes_no_memory(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(60_000, 60_000))
    code = """
import pathlib, resource, sys
from components.errors import ImageError
from components.imaging import decode
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))  # the pixels would take 10 times as much
try:
    decode(pathlib.Path(sys.argv[1]).read_bytes())
except ImageError as error:
    print(error.reason)
"""
    command = [sys.executable, "-c", code, tmp_path / "bomb.png"]
    # One thread: the libraries of linear algebra reserve address space for each of theirs.
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"OPENBLAS_NUM_THREADS": "1"})
    assert result.stdout == "too_large\n"


SAMPLES = [
    encoded(Image.fromarray(PIXELS)),
    encoded(Image.fromarray(PIXELS), "JPEG"),
    encoded(Image.fromarray(PIXELS), "BMP"),
    encoded(Image.fromarray(PIXELS), "TIFF"),
    encoded(Image.fromarray(PIXELS), "TIFF", compression="tiff_lzw"),
    encoded(Image.fromarray(PIXELS).quantize(16)),
    encoded(Image.fromarray(GREY.astype(np.uint16) * 16), "TIFF"),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4), st.floats(0, 1))
def test_damage_gives_an_image_or_an_image_error(data, changes, length):
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    try:
        image = decode(bytes(damaged[: int(length * len(damaged))]), max_pixels=1_000_000)
    except ImageError as error:
        assert error.reason in {"empty", "unreadable", "truncated", "too_large", "unsupported"}
    else:
        assert image.dtype == np.uint8
        assert image.shape[2] == 3


def test_resize_keeps_shares_of_the_area():
    image = np.zeros((100, 300, 3), np.uint8)
    image[:, :90] = 255
    small = resize(image, 50)
    assert small.shape == (50, 50, 3)
    assert small.mean() / 255 == pytest.approx(0.3, abs=0.01)


def test_resize_is_antialiased():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    assert resize(stripes, 20).std() < 10


def test_resize_leaves_the_right_size_alone():
    assert np.array_equal(resize(PIXELS[:20, :20], 20), PIXELS[:20, :20])


def test_normalise_gives_what_the_network_takes():
    prep = Preprocessing(size=2, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    batch = np.full((3, 2, 2, 3), 255, np.uint8)
    batch[1] = 0
    result = normalise(batch, prep)
    assert result.shape == (3, 3, 2, 2)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    assert result[:, :, 0, 0] == pytest.approx(np.array([[1, 3, 0.5], [-1, -1, 0], [1, 3, 0.5]]), abs=1e-6)


def test_preprocess_is_the_three_in_a_row():
    prep = Preprocessing(size=8)
    expected = normalise(resize(PIXELS, 8)[np.newaxis], prep)[0]
    assert np.array_equal(preprocess(encoded(Image.fromarray(PIXELS)), prep), expected)


@pytest.mark.parametrize("wrong", [{"std": (0.5, 0.0, 0.5)}, {"size": 0}, {"colour": "grey"}, {"mean": (0.5,)}])
def test_preprocessing_refuses(wrong):
    with pytest.raises(ValidationError):
        Preprocessing(**wrong)


def test_probabilities_add_up_and_survive_large_logits():
    result = probabilities(np.array([[1000.0, 0.0, -1000.0], [0.0, np.log(2.0), np.log(5.0)]]))
    assert result.sum(axis=1) == pytest.approx([1, 1])
    assert result[1] == pytest.approx([1 / 8, 2 / 8, 5 / 8])


def test_temperature_flattens():
    logits = np.array([[2.0, 0.0, -1.0]])
    assert probabilities(logits, 2.0)[0] == pytest.approx(probabilities(logits / 2)[0])
    assert probabilities(logits, 100.0).max() < 0.35


def checkerboard(height: int, width: int, amplitude: int) -> NDArray[np.uint8]:
    """A floor of one grey, with fine structure of the given amplitude in its left half."""
    image = np.full((height, width), 128, np.int64)
    rows, columns = np.indices((height, width // 2))
    image[:, : width // 2] += np.where((rows + columns) % 2, amplitude, -amplitude)
    return np.repeat(image.astype(np.uint8)[..., np.newaxis], 3, axis=2)


def test_texture_tells_structure_from_floor_whatever_the_brightness() -> None:
    planes = texture(checkerboard(64, 64, 20))
    cells, floor = planes[:, 4:20].mean(axis=(0, 1)), planes[:, 44:60].mean(axis=(0, 1))
    assert (cells > floor + 60).all()
    brighter = texture(checkerboard(64, 64, 20) + 60)
    assert np.array_equal(brighter, planes)


def test_texture_measures_the_standard_deviation_of_each_window() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    planes = texture(np.repeat(image[..., np.newaxis], 3, axis=2))
    for plane, window in ((1, 5), (2, 17)):
        half = window // 2
        around = image[20 - half : 20 + half + 1, 25 - half : 25 + half + 1].astype(float)
        assert planes[20, 25, plane] == int(np.clip(32 * (np.log2(around.std() + 0.5) + 1), 0, 255))


def test_texture_shrinks_large_images_and_takes_tiny_ones() -> None:
    assert texture(np.zeros((30, 2048, 3), np.uint8)).shape == (8, 512, 3)
    assert texture(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)


def test_arranging_applies_the_planes_that_the_bundle_names() -> None:
    image = checkerboard(64, 64, 20)
    assert np.array_equal(arrange(image, Preprocessing(size=16)), resize(image, 16))
    assert np.array_equal(arrange(image, Preprocessing(size=16, planes="texture")), resize(texture(image), 16))


@pytest.mark.parametrize(("method", "function"), [("equalise", equalise), ("clahe", equalise_locally)])
def test_arranging_equalises_before_it_shrinks_or_measures(
    method: str, function: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
) -> None:
    image = checkerboard(64, 64, 20)
    prep = Preprocessing(size=16, equalisation=method)
    assert np.array_equal(arrange(image, prep), resize(function(image), 16))
    measured = arrange(image, prep.model_copy(update={"planes": "texture"}))
    assert np.array_equal(measured, resize(texture(function(image)), 16))


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_deep_images_are_stretched_in_little_memory(kind):
    """Numbers of eight bytes for a whole image would take gigabytes where a hundred million pixels are allowed."""
    side = 1000
    data = encoded(Image.fromarray(np.arange(side * side).reshape(side, side).astype(kind)), "TIFF")
    tracemalloc.start()
    try:
        decode(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 14 * side * side


@pytest.mark.parametrize(
    "prep",
    [
        Preprocessing(size=24),
        Preprocessing(size=20, planes="texture"),
        Preprocessing(size=24, clumps="masked", equalisation="clahe"),
    ],
    ids=["rgb", "texture", "masked and equalised"],
)
@pytest.mark.parametrize("size", [(60, 40), (24, 24)], ids=["larger", "of the network's size"])
def test_a_picture_is_arranged_as_the_array_of_its_pixels(prep: Preprocessing, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    picture = read(file.getvalue())
    np.testing.assert_array_equal(np.asarray(picture), pixels)
    np.testing.assert_array_equal(arrange(picture, prep), arrange(pixels, prep))
