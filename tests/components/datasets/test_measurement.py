import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from components.datasets.blobs import blob_key
from components.datasets.measurement import measure, measured, sharpness
from components.errors import IntegrityError


def cells(seed=0, side=512):
    """Bright-edged blobs on uneven light: a picture with detail, as micrographs have it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    image = 110 + 40 * x
    for cx, cy, radius in rng.uniform((0, 0, 0.02), (1, 1, 0.05), (40, 3)):
        distance = np.hypot(x - cx, y - cy) / radius
        image += 60 * np.exp(-((distance - 1) ** 2) * 30) - 30 * (distance < 0.9)
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def test_the_figures_of_a_known_picture():
    pixels = np.full((40, 80), 100, np.uint8)
    pixels[:, :20] = 0
    pixels[:10, 20:] = 255
    figures = measure(_encoded(Image.fromarray(pixels)), 10_000)
    assert (figures.problem, figures.width, figures.height) == (None, 80, 40)
    assert figures.dark == pytest.approx(20 / 80)
    assert figures.bright == pytest.approx(600 / 3200)
    assert figures.contrast == pytest.approx(pixels.std())


def test_what_cannot_be_decoded_has_a_problem_instead(png):
    assert measure(b"", 10_000).problem == "empty"
    assert measure(png(0), 1919).problem == "too_large"
    assert "1919" in measure(png(0), 1919).message


def test_sharpness_falls_as_the_blur_grows():
    values = [sharpness(cells().filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.1
    assert values[3] < 0.005


def test_sharpness_is_that_of_the_picture_and_not_of_its_size():
    large = cells(side=1024)
    small = large.resize((512, 512), Image.Resampling.BOX)
    assert sharpness(large) == pytest.approx(sharpness(small), rel=0.2)


def test_noise_counts_as_detail():
    blurred = np.array(cells().filter(ImageFilter.GaussianBlur(8)), float)
    noisy = blurred + np.random.default_rng(0).normal(0, 5, blurred.shape)
    assert sharpness(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))) > 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (2, 2)])
def test_tiny_images_have_a_sharpness_too(size):
    assert sharpness(Image.new("L", size, 7)) == 0


def test_each_digest_is_measured_once(repository, hold, png, tmp_path):
    records = [hold(f"{seed}.png", png(seed)) for seed in range(20)] + [hold("broken.png", b"no image")]
    first = list(measured(repository, records, 10_000, tmp_path))
    for record in records:
        repository.store.delete(blob_key(record.sha256))
    assert list(measured(repository, records, 10_000, tmp_path)) == first
    assert [item.record for item in first] == records
    with pytest.raises(IntegrityError):
        list(measured(repository, records, 20_000, tmp_path))
    with pytest.raises(IntegrityError):
        list(measured(repository, records, 10_000, None))


def _encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
