"""The floor of a culture: cells laid down one by one until they cover what was asked for.

A cell is a scalar field, its hold on each pixel: high along its spine, falling with the distance from
it in units of the cell's local width. A pixel belongs to the cell with the strongest hold, so cells
touch along common borders and do not overlap, and the mask is where the strongest hold exceeds a
threshold. The threshold is a quantile, which makes the covered fraction exact to one pixel.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from components.datasets.simulation.habit import Habit, Streams
from components.datasets.simulation.noise import Field, smooth_noise

Mask = NDArray[np.bool_]

# Half lengths and half widths in pixels at scale 1: about 120 spindles fill 480 x 480 pixels.
HALF_LENGTH = 82.0
HALF_WIDTH = 12.5
ROUNDED_RADIUS = 10.5
ENLARGED_RADIUS = 52.0
# At this scale a spindle is still ten pixels wide.
WORKING_SCALE = 0.42
# Distance, in widths of a cell, that stands for 'far from every cell'.
FARTHEST = 6.0
# Standard deviation of the warp that bends all cells, pixels at scale 1.
WARP = 5.0
# The field is cut off at this many half lengths from a cell's centre.
REACH = 1.15


class Kind(IntEnum):
    """The shapes that a cell can have."""

    SPINDLE = 0
    ROUNDED = 1  # about to divide: lifted off the floor, round and bright
    ENLARGED = 2  # abnormal: flattened and several times as large


class Cells(NamedTuple):
    """What is known of each cell of a layer; arrays of shape (N,), pixels and radians.

    ``size`` is the half length of a spindle or the radius of a round cell.
    """

    x: Field
    y: Field
    angle: Field
    size: Field
    kind: NDArray[np.int8]


class Layer(NamedTuple):
    """One layer of cells on the floor.

    Attributes:
        mask: (H, W) bool, the covered pixels.
        owner: (H, W) int16, index of the cell that holds the pixel, meaningless outside the mask.
        depth: (H, W) float32, 0 at the layer's outline to 1 on a cell's spine, 0 outside the mask.
        seam: (H, W) float32, 0 on the border between two cells to 1 far from it.
        cells: The cells that ``owner`` counts.
    """

    mask: Mask
    owner: NDArray[np.int16]
    depth: Field
    seam: Field
    cells: Cells


def window(row: float, column: float, down: float, right: float) -> tuple[slice, slice]:
    """Give the part of an image within a distance of a point."""
    top, left = max(0, int(row - down)), max(0, int(column - right))
    return slice(top, max(0, int(row + down) + 1)), slice(left, max(0, int(column + right) + 1))


def offsets(where: tuple[slice, slice], shape: tuple[int, int], row: float, column: float) -> tuple[Field, Field]:
    """Give the distances of a window's rows (h, 1) and columns (1, w) from a point, pixels."""
    rows = np.arange(*where[0].indices(shape[0]), dtype=np.float32)[:, None] - np.float32(row)
    columns = np.arange(*where[1].indices(shape[1]), dtype=np.float32)[None, :] - np.float32(column)
    return rows, columns


class Disc(NamedTuple):
    """A round cell, which no neighbour may push in."""

    cell: int
    where: tuple[slice, slice]
    hold: Field


class _Floor:
    """The fields under construction while cells are added."""

    def __init__(
        self, shape: tuple[int, int], habit: Habit, confluence: float, streams: Streams, rng: np.random.Generator
    ) -> None:
        self.shape, self.habit, self.confluence, self.streams, self.rng = shape, habit, confluence, streams, rng
        self.best = np.full(shape, 1.0 / FARTHEST**2, np.float32)
        self.second = np.full(shape, 1.0 / FARTHEST**2, np.float32)
        self.owner = np.zeros(shape, np.int16)
        self.cells: list[tuple[float, float, float, float, Kind]] = []
        # The same warp for all cells bends spines and roughens outlines, and keeps shared borders shared.
        scale = habit.scale
        warp = [
            WARP * scale * smooth_noise(rng, shape, 22.0 * scale) + 1.1 * scale * smooth_noise(rng, shape, 4.5 * scale)
            for _ in range(2)
        ]
        rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        self.rows, self.columns = rows + warp[0], columns + warp[1]

    def emptiest(self, candidates: int) -> tuple[int, int]:
        """Pick, of some random pixels, the one that the cells so far hold least."""
        rows = self.rng.integers(0, self.shape[0], candidates)
        columns = self.rng.integers(0, self.shape[1], candidates)
        chosen = int(np.argmin(self.best[rows, columns]))
        return int(rows[chosen]), int(columns[chosen])

    def settle(self, where: tuple[slice, slice], hold: Field) -> None:
        """Let a new cell, already appended, take the pixels on which its hold is the strongest."""
        best = self.best[where]
        self.second[where] = np.maximum(self.second[where], np.minimum(best, hold))
        np.copyto(self.owner[where], len(self.cells) - 1, where=hold > best)
        np.maximum(best, hold, out=best)

    def reserve(self, disc: Disc) -> None:
        """Give a round cell all of its own outline."""
        inside = disc.hold > 1.0
        self.owner[disc.where][inside] = disc.cell
        self.best[disc.where][inside] = disc.hold[inside]
        self.second[disc.where][inside] = 1.0

    def covered(self) -> float:
        return np.count_nonzero(self.best > 1.0) / self.best.size


def _spine(along: Field, across: Field, half_length: float, half_width: float) -> Field:
    """Hold of a spindle: (width / distance from the spine) squared, tapering into thin processes."""
    x2 = (along / half_length) ** 2
    taper = np.clip(1.0 - x2, 0.0, None)
    # Written out, because a power of 3 takes ten times as long as two products.
    width = half_width * (taper * taper * taper) + 1.0 / (1.0 + x2 * x2 * x2)
    return np.asarray(width * width / (across * across + 0.3), np.float32)


def _add_spindle(floor: _Floor) -> None:
    rng, habit, crowding = floor.rng, floor.habit, floor.confluence
    most = 2 + int(14 * max(habit.evenness * crowding, crowding**3))
    row, column = floor.emptiest(int(rng.integers(1, most + 1)))
    angle = floor.streams.at(row / floor.shape[0], column / floor.shape[1]) + rng.normal(0.0, 0.75 - 0.6 * crowding)
    slender = habit.slenderness * float(np.exp(rng.normal(0.0, 0.16)))
    size = habit.scale * float(np.exp(rng.normal(0.0, 0.2)))
    half_length, half_width = HALF_LENGTH * size * slender**0.5, HALF_WIDTH * size / slender**0.5
    bend = rng.normal(0.0, 0.3) / half_length
    skew = rng.uniform(-0.3, 0.3)

    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    branches = rng.binomial(2, 0.55 * (1.0 - crowding) ** 0.7)
    length = REACH * half_length * (1.0 + abs(skew)) + 2.5 * WARP * habit.scale
    girth = (3.5 if branches == 0 else 5.5) * half_width
    where = window(row, column, abs(sine) * length + abs(cosine) * girth, abs(cosine) * length + abs(sine) * girth)
    dx, dy = floor.columns[where] - np.float32(column), floor.rows[where] - np.float32(row)
    along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
    bent = across - np.float32(bend) * along * along
    stretched = along + np.float32(skew) * np.abs(along)
    hold = _spine(stretched, bent, half_length, half_width)
    # Cells with room around them put out further processes; the sum of holds joins them with webs.
    for _ in range(branches):
        turn = rng.uniform(0.7, 1.6) * rng.choice((-1.0, 1.0)) + np.pi * rng.integers(0, 2)
        cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        outward, sideways = cosine * along + sine * across, cosine * across - sine * along
        length = half_length * rng.uniform(0.45, 0.8)
        hold += _spine(outward, sideways, length, 0.6 * half_width) * (outward > 0)
    floor.cells.append((column, row, angle, half_length, Kind.SPINDLE))
    floor.settle(where, hold)


def _add_rounded(floor: _Floor) -> Disc:
    row, column = floor.emptiest(2)
    radius = ROUNDED_RADIUS * floor.habit.scale * float(np.exp(floor.rng.normal(0.0, 0.12)))
    where = window(row, column, 2.0 * radius, 2.0 * radius)
    rows, columns = offsets(where, floor.shape, row, column)
    distance2 = rows**2 + columns**2
    floor.cells.append((column, row, 0.0, radius, Kind.ROUNDED))
    hold = np.float32(radius**2) / (distance2 + np.float32(0.3))
    floor.settle(where, hold)
    return Disc(len(floor.cells) - 1, where, hold)


def _add_enlarged(floor: _Floor) -> Disc:
    """Put one flattened cell, round and lobed, wholly inside the image."""
    rng = floor.rng
    radius = ENLARGED_RADIUS * floor.habit.scale * float(np.exp(rng.normal(0.0, 0.13)))
    height, width = floor.shape
    row = rng.uniform(min(radius, height / 2), max(height - radius, height / 2))
    column = rng.uniform(min(radius, width / 2), max(width - radius, width / 2))
    where = window(row, column, 1.9 * radius, 1.9 * radius)
    dx, dy = floor.columns[where] - np.float32(column), floor.rows[where] - np.float32(row)
    azimuth = np.arctan2(dy, dx)
    outline = np.ones_like(dx)
    for lobes, depth in ((2, 0.16), (3, 0.1), (5, 0.06), (9, 0.025)):
        outline += depth * rng.uniform(0.5, 1.0) * np.cos(lobes * azimuth + rng.uniform(0, 2 * np.pi))
    hold = ((radius * outline) ** 2 / (dx * dx + dy * dy + 1.0)).astype(np.float32)
    floor.cells.append((column, row, rng.uniform(0, np.pi), radius, Kind.ENLARGED))
    floor.settle(where, hold)
    return Disc(len(floor.cells) - 1, where, hold)


def grow_layer(
    shape: tuple[int, int],
    confluence: float,
    habit: Habit,
    streams: Streams,
    rng: np.random.Generator,
    enlarged: int = 0,
) -> Layer:
    """Cover a floor with cells.

    Args:
        shape: Height and width, pixels.
        confluence: Fraction of the pixels to cover, 0 to 1; met to within one pixel.
        habit: How the cells look.
        streams: Where they point, the more strictly the denser they are.
        rng: Source of all chance.
        enlarged: Number of enlarged, flattened cells among them.
    """
    # Large cells are smooth enough to be laid down on a coarser grid and enlarged.
    step = max(1, round(habit.scale / WORKING_SCALE))
    coarse = (-(-shape[0] // step), -(-shape[1] // step))
    floor = _Floor(coarse, habit.at(1 / step), confluence, streams, rng)
    discs = [_add_enlarged(floor) for _ in range(enlarged)]
    while floor.covered() < min(confluence, 0.97):
        if rng.random() < habit.rounded:
            discs.append(_add_rounded(floor))
        else:
            _add_spindle(floor)
    for disc in discs:
        floor.reserve(disc)
    return _cut(floor, shape, step)


def _cut(floor: _Floor, shape: tuple[int, int], step: int) -> Layer:
    """Threshold the fields so that exactly the asked-for fraction is covered."""
    distance = _refined(np.asarray(1.0 / np.sqrt(floor.best), np.float32), step)[: shape[0], : shape[1]]
    seam = 1.0 - np.minimum(floor.second / floor.best, 1.0)
    if step > 1:
        seam = ndimage.uniform_filter(seam, 3)
    seam = _refined(np.asarray(seam, np.float32), step)[: shape[0], : shape[1]]
    owner = floor.owner.repeat(step, axis=0).repeat(step, axis=1)[: shape[0], : shape[1]]
    covered = round(floor.confluence * distance.size)
    mask = np.zeros(shape, np.bool_)
    depth = np.zeros(shape, np.float32)
    if covered:
        nearest = np.argpartition(distance.ravel(), covered - 1)[:covered]
        mask.ravel()[nearest] = True
        depth[mask] = 1.0 - (distance[mask] / distance[mask].max()) ** 2
    table = np.asarray(floor.cells, np.float32).reshape(-1, 5)
    x, y, angle, size = table[:, :4].T * np.array([[step], [step], [1], [step]], np.float32)
    return Layer(mask, owner, depth, seam, Cells(x, y, angle, size, table[:, 4].astype(np.int8)))


def _refined(field: Field, step: int) -> Field:
    if step == 1:
        return field
    size = field.shape[1] * step, field.shape[0] * step
    return np.asarray(Image.fromarray(field).resize(size, Image.Resampling.BILINEAR), np.float32)
