import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.datasets.simulation.cells import Kind, Layer, grow_layer
from components.datasets.simulation.habit import Habit, Streams


def layer(confluence: float, seed: int = 0, shape: tuple[int, int] = (240, 240), enlarged: int = 0) -> Layer:
    rng = np.random.default_rng(seed)
    streams = Streams.flow(shape, 45.0, rng)
    return grow_layer(shape, confluence, Habit(scale=0.5), streams, rng, enlarged)


@settings(max_examples=15, deadline=None)
@given(
    confluence=st.floats(0.0, 1.0),
    seed=st.integers(0, 2**32),
    height=st.integers(40, 130),
    width=st.integers(40, 130),
)
def test_the_covered_fraction_is_exact_to_one_pixel(confluence, seed, height, width):
    drawn = layer(confluence, seed, (height, width))
    assert abs(np.count_nonzero(drawn.mask) - confluence * height * width) <= 0.5 + 1e-6
    assert drawn.mask.shape == drawn.owner.shape == drawn.depth.shape == drawn.seam.shape == (height, width)


def test_each_covered_pixel_belongs_to_a_cell_and_depth_ends_at_the_outline():
    drawn = layer(0.6)
    assert drawn.owner[drawn.mask].max() < len(drawn.cells.x)
    assert np.all(drawn.depth[~drawn.mask] == 0.0)
    assert drawn.depth.min() >= 0.0
    assert drawn.depth.max() <= 1.0


def areas(drawn: Layer) -> dict[Kind, list[int]]:
    found: dict[Kind, list[int]] = {kind: [] for kind in Kind}
    for index, kind in enumerate(drawn.cells.kind):
        found[Kind(int(kind))].append(np.count_nonzero(drawn.mask & (drawn.owner == index)))
    return found


@pytest.mark.parametrize("confluence", [0.3, 0.7, 0.95])
def test_enlarged_cells_are_several_times_as_large_as_spindles(confluence):
    for seed in range(4):
        found = areas(layer(confluence, seed, enlarged=1))
        assert len(found[Kind.ENLARGED]) == 1
        assert found[Kind.ENLARGED][0] > 2.5 * np.median(found[Kind.SPINDLE])


def elongation(mask: np.ndarray) -> float:
    """Ratio of the longest to the shortest principal axis of a shape."""
    axes = np.linalg.eigvalsh(np.cov(np.argwhere(mask).T))
    return float(np.sqrt(axes[1] / axes[0]))


def test_spindles_are_elongated():
    drawn = layer(0.35)
    spindles = np.flatnonzero(drawn.cells.kind == Kind.SPINDLE)
    shapes = [drawn.mask & (drawn.owner == index) for index in spindles]
    ratios = [elongation(shape) for shape in shapes if np.count_nonzero(shape) > 100]
    assert np.median(ratios) > 2.5


def alignment_of_neighbours(drawn: Layer) -> float:
    """Mean cosine of twice the angle between each cell and its nearest: 1 parallel, 0 at random."""
    points = np.stack([drawn.cells.x, drawn.cells.y], axis=1)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    return float(np.cos(2 * (drawn.cells.angle - drawn.cells.angle[nearest])).mean())


def test_cells_align_with_their_neighbours_the_more_the_denser():
    sparse = np.mean([alignment_of_neighbours(layer(0.25, seed)) for seed in range(6)])
    dense = np.mean([alignment_of_neighbours(layer(0.9, seed)) for seed in range(3)])
    assert dense > 0.6
    assert dense > sparse + 0.15


def test_streams_turn_across_a_floor():
    angles = Streams.flow((480, 480), 100.0, np.random.default_rng(1)).angles
    assert np.abs(np.exp(2j * angles).mean()) < 0.8
    assert angles.min() >= -np.pi / 2
    assert angles.max() <= np.pi / 2


def test_an_empty_floor_has_no_cells():
    drawn = layer(0.0)
    assert not drawn.mask.any()
    assert len(drawn.cells.x) == 0
