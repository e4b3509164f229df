import numpy as np
from scipy import ndimage

from components.datasets.simulation.cells import grow_layer
from components.datasets.simulation.habit import Habit, Streams
from components.datasets.simulation.optics import phase, phase_contrast


def disc(radius: float, side: int = 200) -> np.ndarray:
    rows, columns = np.ogrid[:side, :side]
    return ((rows - side / 2) ** 2 + (columns - side / 2) ** 2 <= radius**2).astype(np.float32)


def test_bodies_are_dark_and_have_a_bright_halo():
    body = disc(9)
    change = phase_contrast(body, 1.0)
    halo = ndimage.binary_dilation(body, iterations=3) & (body == 0)
    far = ~ndimage.binary_dilation(body, iterations=60)
    assert change[body == 1].mean() < -0.1
    assert change[halo].mean() > 0.25
    assert abs(change[far].mean()) < 0.01


def test_wide_flat_bodies_fade_in_their_middle():
    change = phase_contrast(disc(70), 1.0)
    edge = change[100, 100 - 68]
    assert edge < -0.2
    assert abs(change[100, 100]) < 0.75 * abs(edge)


def test_nothing_to_see_gives_no_change():
    assert not phase_contrast(np.zeros((50, 60), np.float32), 1.0).any()


def test_cells_have_thickness_and_detail_only_where_the_mask_is():
    rng = np.random.default_rng(4)
    layer = grow_layer((240, 240), 0.4, Habit(scale=1.0), Streams.flow((240, 240), 50.0, rng), rng)
    thickness = phase(layer, 1.0, rng)
    # Cells about to divide have a rim, and outlines are softened, a few pixels beyond the mask.
    outside = ~ndimage.binary_dilation(layer.mask, iterations=6)
    assert np.abs(thickness[outside]).max() < 0.01
    assert thickness[layer.mask].mean() > 0.2


def test_detail_adds_dark_nucleoli():
    rng = np.random.default_rng(4)
    layer = grow_layer((240, 240), 0.4, Habit(scale=1.0), Streams.flow((240, 240), 50.0, rng), rng)
    detailed = phase(layer, 1.0, np.random.default_rng(0))
    plain = phase(layer, 1.0, np.random.default_rng(0), detail=False)
    assert (detailed - plain).max() > 0.4
