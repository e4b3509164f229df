import numpy as np
import pytest
from numpy.typing import NDArray

from components.equalisation import CLIP, equalise, equalise_locally


def grey(levels: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.repeat(levels.clip(0, 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def faint(seed: int = 0, size: tuple[int, int] = (160, 200)) -> NDArray[np.uint8]:
    return grey(np.random.default_rng(seed).normal(120, 6, size))


def test_brightness_is_spread_evenly_over_all_levels() -> None:
    spread = equalise(faint())[..., 0]
    assert (spread.min(), spread.max()) == (0, 255)
    shares = np.histogram(spread, bins=4, range=(0, 256))[0] / spread.size
    assert shares == pytest.approx([0.25] * 4, abs=0.08)


def test_the_mapping_is_that_of_the_textbook() -> None:
    # Levels 10, 20, 30, 40 with 4, 2, 1 and 1 of 8 pixels: (cumulated - 4) / (8 - 4) * 255.
    image = grey(np.array([[10, 10, 10, 10], [20, 20, 30, 40]]))
    assert equalise(image)[..., 0].tolist() == [[0, 0, 0, 0], [128, 128, 191, 255]]


def test_neither_light_nor_gain_of_the_camera_matters() -> None:
    levels = np.random.default_rng(1).normal(100, 20, (160, 160)).clip(20, 180)
    first, second = equalise(grey(levels)), equalise(grey(levels * 1.1 + 30))
    assert np.abs(first.astype(int) - second).mean() < 3


@pytest.mark.parametrize("change", [equalise, equalise_locally])
def test_order_of_levels_greys_and_shape_are_kept(change) -> None:
    image = faint(size=(37, 53))
    result = change(image)
    assert result.shape == image.shape
    assert result.dtype == np.uint8
    assert (result[..., 0] == result[..., 1]).all()
    assert (result[..., 1] == result[..., 2]).all()


def test_a_brighter_pixel_stays_brighter() -> None:
    image = faint()
    result, order = equalise(image)[..., 0].ravel(), np.argsort(image[..., 0].ravel(), kind="stable")
    assert (np.diff(result[order].astype(int)) >= 0).all()


def test_colours_keep_their_hue() -> None:
    image = faint()
    image[..., 0] += 20
    distance = equalise(image).astype(int)[..., 0] - equalise(image)[..., 1]
    inside = (equalise(image).max(axis=2) < 255) & (equalise(image).min(axis=2) > 0)
    assert (distance[inside] == 20).all()
    assert inside.mean() > 0.7


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 5), (8, 8), (17, 300)])
def test_pictures_of_any_size_are_taken(size: tuple[int, int]) -> None:
    for change in (equalise, equalise_locally):
        assert change(faint(size=size)).shape == (*size, 3)


@pytest.mark.parametrize("level", [0, 90, 255])
def test_an_even_picture_has_nothing_to_spread(level: int) -> None:
    even = grey(np.full((64, 64), level))
    assert np.array_equal(equalise(even), even)
    assert np.ptp(equalise_locally(even)) == 0


def test_uneven_light_is_evened_out_by_tiles_alone() -> None:
    light = np.linspace(0, 90, 320)[np.newaxis]
    cells = np.random.default_rng(2).normal(0, 5, (320, 320))
    lit = grey(80 + light + cells)

    def unevenness(image: NDArray[np.uint8]) -> float:
        columns = image[..., 0].mean(axis=0)
        return float(columns[-80:].mean() - columns[:80].mean())

    assert unevenness(equalise(lit)) > 100
    assert unevenness(equalise_locally(lit)) < 0.5 * unevenness(equalise(lit))


def test_the_limit_keeps_noise_from_being_blown_up() -> None:
    floor = grey(np.random.default_rng(3).normal(120, 2, (256, 256)))
    assert equalise(floor)[..., 0].std() > 65
    # A level's share of the range is CLIP times the even one, and its part of what was cut off: 1 at most.
    assert equalise_locally(floor)[..., 0].std() < (CLIP + 1) * floor[..., 0].std()


def test_there_are_no_seams_between_tiles() -> None:
    smooth = grey(np.linspace(60, 180, 256)[np.newaxis] + np.zeros((256, 1)))
    result = equalise_locally(smooth)[..., 0].astype(int)
    assert np.abs(np.diff(result, axis=1)).max() <= 4
    assert np.abs(np.diff(result, axis=0)).max() <= 1
