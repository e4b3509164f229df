"""What a phase-contrast microscope makes of a layer of cells.

A phase ring of finite width passes the low frequencies of the specimen's phase along with the direct
light, so the image is dark where the phase exceeds its own smoothed copy and bright where it falls
short of it. That one subtraction gives the halo outside the cells, the dark bodies, and the fading of
wide flat cells to the grey of the background.
"""

import numpy as np

from components.datasets.simulation.cells import Cells, Kind, Layer, offsets, window
from components.datasets.simulation.noise import Field, blur, enlarge, smooth_noise


def phase(layer: Layer, scale: float, rng: np.random.Generator, detail: bool = True) -> Field:
    """Give the optical thickness of a layer, about 0 (bare floor) to 1.5 (nucleoli, thick bodies).

    Args:
        layer: The cells.
        scale: Size of what is inside them against that at 480 pixels.
        rng: Source of all chance.
        detail: Whether to draw nuclei and granules, which a strong blur would hide.
    """
    cells, owner = layer.cells, layer.owner
    if len(cells.x) == 0:
        return np.zeros(owner.shape, np.float32)
    thickness = np.exp(rng.normal(0.0, 0.28, len(cells.x))).astype(np.float32)
    thickness[cells.kind == Kind.ENLARGED] = 0.7
    near = _nearness(layer)
    result = thickness[owner] * (0.25 + 0.55 * np.sqrt(layer.depth) + 0.35 * near)
    result *= 1.3 * layer.seam / (layer.seam + np.float32(0.4))
    result *= layer.mask
    result = blur(result, 0.8 * scale)
    if detail:
        result += _granules(near, scale, rng) * layer.mask
        _add_nuclei(result, layer, scale, rng)
    _add_rounded(result, layer.cells)
    return result


def _add_rounded(result: Field, cells: Cells) -> None:
    """Draw cells about to divide: so thick that the phase wraps, bright with a dark rim."""
    for index in np.flatnonzero(cells.kind == Kind.ROUNDED):
        row, column, radius = float(cells.y[index]), float(cells.x[index]), float(cells.size[index])
        where = window(row, column, 1.5 * radius, 1.5 * radius)
        rows, columns = offsets(where, result.shape, row, column)
        distance = np.sqrt(rows**2 + columns**2) / radius
        body = np.clip((1.0 - distance) * 6.0, 0.0, 1.0)
        rim = np.exp(-(((distance - 1.0) / 0.14) ** 2))
        result[where] += body * (-0.35 - 0.6 * distance**2 - result[where]) + 0.7 * rim


def _granules(near: Field, scale: float, rng: np.random.Generator) -> Field:
    """Vesicles and organelles, dense around the nucleus."""
    fine = smooth_noise(rng, near.shape, 1.15 * scale)
    return np.asarray((0.06 + 0.34 * near) * np.maximum(fine - 0.5, 0.0), np.float32)


def _nearness(layer: Layer) -> Field:
    """Give 1 at the centre of each cell, falling to 0 along its processes; smooth, so drawn at half size."""
    cells, owner = layer.cells, layer.owner[::2, ::2]
    rows, columns = np.ogrid[: owner.shape[0], : owner.shape[1]]
    dx, dy = 2 * columns - cells.x[owner], 2 * rows - cells.y[owner]
    cosine, sine = np.cos(cells.angle)[owner], np.sin(cells.angle)[owner]
    along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
    near = np.exp(-(along**2 + 2.0 * across**2) / (0.3 * cells.size[owner]) ** 2)
    height, width = layer.owner.shape
    return enlarge(near, (2 * near.shape[0], 2 * near.shape[1]))[:height, :width]


def _add_nuclei(result: Field, layer: Layer, scale: float, rng: np.random.Generator) -> None:
    """Add to each cell an oval paler than the body, its dark rim, and two dark nucleoli."""
    cells = layer.cells
    for index in np.flatnonzero(cells.kind != Kind.ROUNDED):
        enlarged = cells.kind[index] == Kind.ENLARGED
        long = scale * (13.0 if enlarged else 10.5) * float(np.exp(rng.normal(0.0, 0.1)))
        wide = long * (0.85 if enlarged else 0.58)
        where = window(float(cells.y[index]), float(cells.x[index]), 1.4 * long, 1.4 * long)
        along, across = _own_frame(cells, index, where, result.shape)
        radius = np.sqrt((along / long) ** 2 + (across / wide) ** 2)
        inside = np.clip((1.08 - radius) * 5.0, 0.0, 1.0)
        nucleus = 0.22 * np.exp(-(((radius - 1.0) / 0.16) ** 2)) - 0.3 * inside
        for _ in range(2):
            x, y = long * rng.uniform(-0.5, 0.5), wide * rng.uniform(-0.4, 0.4)
            nucleus += 0.8 * np.exp(-((along - x) ** 2 + (across - y) ** 2) / (2.6 * scale * scale)) * inside
        result[where] += nucleus * (layer.mask[where] & (layer.owner[where] == index))


def _own_frame(cells: Cells, index: np.intp, where: tuple[slice, slice], shape: tuple[int, int]) -> tuple[Field, Field]:
    """Give the coordinates of a window's pixels along and across a cell."""
    rows, columns = offsets(where, shape, float(cells.y[index]), float(cells.x[index]))
    cosine, sine = np.cos(cells.angle[index]), np.sin(cells.angle[index])
    return cosine * columns + sine * rows, cosine * rows - sine * columns


def phase_contrast(thickness: Field, scale: float) -> Field:
    """Give the relative change of light that a phase makes: negative in bodies, positive in halos."""
    wide = blur(thickness, 13.0 * scale)
    narrow = blur(thickness, 3.2 * scale)
    change = 0.52 * wide + 0.62 * narrow - 1.1 * thickness
    # Halos stand out more than bodies; interference saturates, so neither goes without bound.
    change *= np.where(change > 0.0, np.float32(1.6), np.float32(0.8))
    return np.asarray(np.tanh(change), np.float32)
