"""What lies or floats in a culture beside the attached cells."""

import numpy as np

from components.datasets.simulation.cells import Mask, offsets, window
from components.datasets.simulation.noise import Field, blur, enlarge, smooth_noise


def scatter_debris(shape: tuple[int, int], expected: float, scale: float, rng: np.random.Generator) -> Field:
    """Draw specks of dirt and floating dead cells.

    Args:
        shape: Height and width, pixels.
        expected: Mean number of pieces.
        scale: Size of the pieces against that at 480 pixels.
        rng: Source of all chance.

    Returns:
        (H, W) relative change of light: dark specks with a bright fringe, bright dead cells with a dark one.
    """
    change = np.zeros(shape, np.float32)
    for _ in range(rng.poisson(expected)):
        row, column = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        dead = rng.random() < 0.12
        radius = scale * (rng.uniform(5.0, 8.0) if dead else rng.uniform(0.9, 2.4))
        strength = rng.uniform(0.5, 1.1) if dead else -rng.uniform(0.25, 0.8)
        _add_piece(change, row, column, radius, strength)
    return change


def _add_piece(change: Field, row: float, column: float, radius: float, strength: float) -> None:
    """Add one blob with a fringe of the opposite sign, as any phase object has."""
    reach = 3.0 * radius + 2.0
    where = window(row, column, reach, reach)
    rows, columns = offsets(where, change.shape, row, column)
    distance = np.sqrt(rows**2 + columns**2)
    body = np.exp(-((distance / radius) ** 4))
    fringe = np.exp(-(((distance - 1.5 * radius) / (0.45 * radius)) ** 2))
    change[where] += (strength * (body - 0.55 * fringe)).astype(np.float32)


def draw_clumps(shape: tuple[int, int], expected: float, scale: float, rng: np.random.Generator) -> tuple[Field, Mask]:
    """Draw clumps: loose heaps of dead cells that swallow light, slightly out of focus.

    Returns:
        (H, W) share of the light that passes, and the (H, W) mask of the clumps.
    """
    density = np.zeros((shape[0] // 2, shape[1] // 2), np.float32)
    for _ in range(rng.poisson(expected)):
        row, column = rng.uniform(0, density.shape[0]), rng.uniform(0, density.shape[1])
        spread = scale * rng.uniform(3.0, 10.0)
        for _ in range(rng.integers(5, 16)):
            y, x = rng.normal((row, column), spread)
            _add_lump(density, y, x, scale * rng.uniform(2.0, 5.5))
    if not density.any():
        return np.ones(shape, np.float32), np.zeros(shape, np.bool_)
    density *= 1.0 + 0.35 * smooth_noise(rng, density.shape, 1.5 * scale)
    swallowed = np.asarray(1.0 - np.exp(-1.3 * np.maximum(density, 0.0)), np.float32)
    opacity = enlarge(blur(swallowed, 0.9 * scale), shape)
    return 1.0 - np.float32(rng.uniform(0.55, 0.8)) * opacity, opacity > 0.4


def _add_lump(density: Field, row: float, column: float, radius: float) -> None:
    where = window(row, column, 3.0 * radius, 3.0 * radius)
    rows, columns = offsets(where, density.shape, row, column)
    density[where] += np.exp(-(rows**2 + columns**2) / np.float32(radius**2))
