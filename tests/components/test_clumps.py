import numpy as np
import pytest

from components.clumps import clump_mask, without_clumps
from components.culture import Modality
from components.datasets.simulation.picture import render
from components.imaging import Preprocessing, arrange


def floor(side=300, seed=0):
    rng = np.random.default_rng(seed)
    grey = 120 + rng.normal(0, 6, (side, side))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def with_clump(image, row, column, radius):
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    shadow = np.clip(1.5 - np.hypot(rows - row, columns - column) / radius, 0, 1) * 0.7
    return (image * (1 - shadow[..., np.newaxis])).astype(np.uint8)


@pytest.mark.parametrize(("row", "column"), [(150, 150), (20, 280), (299, 0)])
def test_a_clump_is_found_where_it_is_and_taken_out(row, column):
    image = with_clump(floor(), row, column, 20)
    mask = clump_mask(image)
    rows, columns = np.nonzero(mask)
    assert np.hypot(rows - row, columns - column).max() < 45
    core = np.hypot(*np.ogrid[-row : 300 - row, -column : 300 - column]) < 15
    assert mask[core].all()
    clean = without_clumps(image)
    assert clean.dtype == np.uint8
    assert abs(clean[core].mean() - 120) < 8
    assert (clean[~mask] == image[~mask]).all()


def test_a_picture_without_clumps_stays_as_it_is():
    image = floor()
    assert not clump_mask(image).any()
    assert without_clumps(image) is image


def culture(share, modality, rng):
    return np.repeat(render(share, modality, rng, (240, 240)).image[..., np.newaxis], 3, axis=2)


def test_cells_are_no_clumps_and_uneven_light_is_none():
    rng = np.random.default_rng(1)
    for share in (0.2, 0.5, 0.9):
        picture = culture(share, Modality.SINGLE_STACK, rng)
        light = np.linspace(0.6, 1.0, 240)[:, np.newaxis, np.newaxis]
        assert clump_mask((picture * light).astype(np.uint8)).mean() < 0.03


def test_simulated_flasks_have_some():
    rng = np.random.default_rng(2)
    shares = [clump_mask(culture(0.5, Modality.MULTI_STACK, rng)).mean() for _ in range(6)]
    assert 0.002 < np.mean(shares) < 0.2


@pytest.mark.parametrize("side", [1, 2, 9])
def test_the_smallest_and_the_darkest_pictures_are_no_trouble(side):
    for grey in (0, 255):
        image = np.full((side, side, 3), grey, np.uint8)
        assert (without_clumps(image) == image).all()


def test_the_networks_input_is_without_them_if_so_wished():
    image = with_clump(floor(), 150, 150, 30)
    kept, masked = (arrange(image, Preprocessing(size=60, clumps=each)) for each in ("kept", "masked"))
    assert kept[30, 30].mean() < 60
    assert masked[30, 30].mean() > 100
