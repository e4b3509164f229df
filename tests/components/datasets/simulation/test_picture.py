import numpy as np
import pytest
from scipy import ndimage

from components.culture import Modality
from components.datasets.simulation import Microscope, render
from components.datasets.simulation.cells import grow_layer
from components.datasets.simulation.habit import Habit, Streams
from components.datasets.simulation.picture import abnormal_boxes
from components.errors import InputError

SINGLE, MULTI = Modality.SINGLE_STACK, Modality.MULTI_STACK
CLEAR = Microscope(noise=0.0, debris=0.0, unevenness=0.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sharpness(image: np.ndarray) -> float:
    return float(ndimage.laplace(ndimage.gaussian_filter(image.astype(float), 1.0)).std())


def contrast(image: np.ndarray) -> float:
    return float((image - ndimage.gaussian_filter(image.astype(float), 10.0)).std())


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize("confluence", [0.0, 0.07, 0.4, 0.8, 1.0])
def test_the_mask_has_the_confluence_that_was_asked_for(modality, confluence):
    picture = render(confluence, modality, rng(), (128, 160))
    assert picture.image.shape == picture.mask.shape == picture.clumps.shape == (128, 160)
    assert picture.image.dtype == np.uint8
    assert picture.confluence == pytest.approx(confluence, abs=1 / (128 * 160))


@pytest.mark.parametrize("modality", list(Modality))
def test_equal_seeds_give_equal_pictures_and_others_do_not(modality):
    one, same, other = (render(0.5, modality, rng(seed), (160, 160), abnormal=1) for seed in (3, 3, 4))
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.mask, same.mask)
    assert one.boxes == same.boxes
    assert (one.mask != other.mask).mean() > 0.1


def test_cells_differ_from_bare_floor_as_under_phase_contrast():
    picture = render(0.3, SINGLE, rng(1), (320, 320), microscope=CLEAR)
    image = picture.image.astype(float)
    near = ndimage.binary_dilation(picture.mask, iterations=3) & ~picture.mask
    far = ~ndimage.binary_dilation(picture.mask, iterations=25)
    assert image[picture.mask].mean() < image[far].mean() - 5
    assert image[near].mean() > image[far].mean() + 5


def test_multi_stack_images_are_blurred_and_paler_than_single_stack_ones():
    for confluence in (0.3, 0.6, 0.9):
        single, multi = (render(confluence, modality, rng(7), (240, 240)) for modality in (SINGLE, MULTI))
        assert np.array_equal(single.mask, multi.mask)
        assert sharpness(multi.image) < 0.6 * sharpness(single.image)
        assert contrast(multi.image) < 0.8 * contrast(single.image)


def test_layers_out_of_focus_show_where_the_floor_is_bare():
    plain, veiled = (
        render(
            0.25, MULTI, rng(2), (240, 240), microscope=Microscope(noise=0.0, debris=0.0, unevenness=0.0, layers=layers)
        )
        for layers in (0, 2)
    )
    bare = ~ndimage.binary_dilation(plain.mask, iterations=15)
    assert veiled.image[bare].std() > plain.image[bare].std() + 1
    assert np.array_equal(plain.mask, veiled.mask)


def test_clumps_are_dark_and_leave_the_cells_as_they_are():
    with_clumps = render(0.6, MULTI, rng(5), (240, 240), microscope=Microscope(clumps=8.0, debris=0.0))
    without = render(0.6, MULTI, rng(5), (240, 240), microscope=Microscope(clumps=0.0, debris=0.0))
    assert 0.005 < with_clumps.clumps.mean() < 0.4
    assert not without.clumps.any()
    assert np.array_equal(with_clumps.mask, without.mask)
    assert with_clumps.image[with_clumps.clumps].mean() < 0.75 * without.image[with_clumps.clumps].mean()


def test_drift_of_light_and_focus_shows():
    usual, brighter, blurred = (
        render(0.5, SINGLE, rng(1), (240, 240), microscope=microscope)
        for microscope in (Microscope(), Microscope().drifted(brightness=0.15), Microscope().drifted(blur=3.0))
    )
    assert brighter.image.mean() > usual.image.mean() + 25
    assert sharpness(blurred.image) < 0.6 * sharpness(usual.image)


def test_debris_does_not_count_as_cover():
    picture = render(0.0, SINGLE, rng(1), (240, 240), microscope=Microscope(debris=60.0, noise=0.0, unevenness=0.0))
    assert picture.confluence == 0.0
    assert picture.image.std() > 2


@pytest.mark.parametrize("confluence", [0.15, 0.5, 0.98])
def test_boxes_lie_inside_the_image_around_an_enlarged_cell(confluence):
    for seed in range(5):
        picture = render(confluence, SINGLE, rng(seed), (160, 200), abnormal=1)
        (box,) = picture.boxes
        assert box.label == "Flatten"
        assert 0 <= box.x1 < box.x2 <= 200
        assert 0 <= box.y1 < box.y2 <= 160
        inside = picture.mask[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)]
        assert inside.mean() > 0.5
        assert 0.02 < inside.size / picture.mask.size < 0.25


def test_the_box_is_the_tightest_around_all_that_the_cell_covers():
    chance = rng(9)
    streams = Streams.flow((200, 200), 40.0, chance)
    layer = grow_layer((200, 200), 0.6, Habit(scale=0.4), streams, chance, enlarged=2)
    for index, box in enumerate(abnormal_boxes(layer)):
        own = np.argwhere(layer.mask & (layer.owner == index))
        assert (box.y1, box.x1) == tuple(own.min(axis=0))
        assert (box.y2, box.x2) == tuple(own.max(axis=0) + 1)


def test_a_picture_without_abnormal_cells_has_no_box():
    assert render(0.5, SINGLE, rng(), (96, 96)).boxes == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"confluence": 1.2}, "confluence 1.2 is not a fraction: give 0 to 1"),
        ({"confluence": float("nan")}, "confluence nan is not a fraction"),
        ({"size": (63, 100)}, "image size 63x100 cannot be drawn: give sides of 64 to 4096"),
        ({"size": (100, 5000)}, "image size 100x5000 cannot be drawn"),
        ({"abnormal": -1}, "abnormal -1 is negative"),
        ({"abnormal": 6}, "leaves no room for 6 enlarged cells"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        render(**({"confluence": 0.5, "modality": SINGLE, "rng": rng(), "size": (96, 96)} | arguments))
