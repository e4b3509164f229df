"""One image of a culture, with the truth about it."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.culture import ABNORMAL_LABEL, Modality
from components.datasets.manifest import Box
from components.datasets.simulation.cells import Kind, Layer, Mask, grow_layer
from components.datasets.simulation.debris import draw_clumps, scatter_debris
from components.datasets.simulation.habit import Habit, Streams
from components.datasets.simulation.microscope import Microscope, expose, illuminate
from components.datasets.simulation.noise import Field, blur, enlarge
from components.datasets.simulation.optics import phase, phase_contrast
from components.errors import InputError

MIN_SIDE = 64
MAX_SIDE = 4096
# Sizes of cells, specks and blurs are given for a field of view of this many pixels.
REFERENCE_SIDE = 480
# The least confluence at which an enlarged cell is no more than a part of the cover.
MIN_CONFLUENCE_OF_ABNORMAL = 0.1


class Picture(NamedTuple):
    """An image and what it shows.

    Attributes:
        image: (H, W) uint8 grey levels.
        mask: (H, W) bool, the floor covered by attached cells; its mean is the confluence.
        boxes: Boxes around the abnormal cells, labelled as in the study's annotations.
        clumps: (H, W) bool, the floor hidden by dark clumps.
    """

    image: NDArray[np.uint8]
    mask: Mask
    boxes: tuple[Box, ...]
    clumps: Mask

    @property
    def confluence(self) -> float:
        """Covered fraction of the floor."""
        return float(self.mask.mean())


def render(
    confluence: float,
    modality: Modality,
    rng: np.random.Generator,
    size: tuple[int, int] = (REFERENCE_SIDE, REFERENCE_SIDE),
    abnormal: int = 0,
    *,
    habit: Habit | None = None,
    microscope: Microscope | None = None,
) -> Picture:
    """Draw one phase-contrast-like image of a culture.

    Args:
        confluence: Fraction of the floor to cover, 0 to 1; met to within one pixel.
        modality: Decides the microscope's settings where none are given.
        rng: Source of all chance: the same state gives the same picture.
        size: Height and width in pixels. The field of view stays the same: fewer pixels, smaller cells.
        abnormal: Number of enlarged, flattened cells, each with a box.
        habit: How the cells look.
        microscope: How the image is taken.

    Raises:
        InputError: if an argument is out of range.
    """
    _check(confluence, size, abnormal)
    microscope = microscope or Microscope.for_modality(modality)
    # Chance of their own keeps the cells the same under another microscope, with or without clumps.
    of_cells, of_optics, of_dirt, of_camera = rng.spawn(4)
    scale = min(size) / REFERENCE_SIDE
    habit = (habit or Habit()).at(scale)
    streams = _streams(size, confluence, habit, of_cells)
    layer = grow_layer(size, confluence, habit, streams, of_cells, enlarged=abnormal)
    thickness = phase(layer, scale, of_optics) + _heaped(layer, confluence, habit, streams, of_optics)
    change = phase_contrast(thickness, scale)

    area = size[0] * size[1] / (REFERENCE_SIDE * scale) ** 2
    change += scatter_debris(size, microscope.debris * area, scale, of_dirt)
    change = blur(change, microscope.blur * scale)
    if microscope.layers:
        change += _out_of_focus(size, confluence, habit, microscope.layers, of_optics)
    passing, clumps = draw_clumps(size, microscope.clumps * area, scale, of_dirt)
    light = microscope.brightness * illuminate(size, microscope.unevenness, of_camera)
    image = expose(light * (1.0 + microscope.contrast * change) * passing, microscope.noise, of_camera)
    return Picture(image, layer.mask, abnormal_boxes(layer), clumps)


def check_size(size: tuple[int, int]) -> None:
    """Refuse a height and width that cannot be drawn.

    Raises:
        InputError: naming the size and the range.
    """
    if min(size) < MIN_SIDE or max(size) > MAX_SIDE:
        raise InputError(
            f"image size {size[0]}x{size[1]} cannot be drawn: give sides of {MIN_SIDE} to {MAX_SIDE} pixels"
        )


def _check(confluence: float, size: tuple[int, int], abnormal: int) -> None:
    if not 0.0 <= confluence <= 1.0:
        raise InputError(f"confluence {confluence} is not a fraction: give 0 to 1")
    check_size(size)
    if abnormal < 0:
        raise InputError(f"abnormal {abnormal} is negative: give 0 or more enlarged cells")
    if abnormal and confluence < MIN_CONFLUENCE_OF_ABNORMAL * abnormal:
        raise InputError(
            f"confluence {confluence} leaves no room for {abnormal} enlarged cells: "
            f"give at least {MIN_CONFLUENCE_OF_ABNORMAL} for each"
        )


def _streams(size: tuple[int, int], confluence: float, habit: Habit, rng: np.random.Generator) -> Streams:
    """Cells that touch more align over longer ways."""
    return Streams.flow(size, (30.0 + 75.0 * confluence) * habit.scale, rng)


def _heaped(layer: Layer, confluence: float, habit: Habit, streams: Streams, rng: np.random.Generator) -> Field | float:
    """Thickness of the cells that climb on others once the floor is nearly full."""
    cover = 0.9 * (confluence - 0.7)
    if cover <= 0.0:
        return 0.0
    shape = layer.mask.shape
    small = (shape[0] // 2, shape[1] // 2)
    upper = grow_layer(small, cover, habit.at(0.5), streams, rng)
    thickness = enlarge(phase(upper, 0.5 * habit.scale, rng), (shape[0], shape[1]))
    return np.where(layer.mask, 0.5 * thickness, 0.0).astype(np.float32)


def _out_of_focus(
    size: tuple[int, int], confluence: float, habit: Habit, layers: int, rng: np.random.Generator
) -> Field:
    """Change of light by the layers above and below, of like confluence, drawn small because it is blurred."""
    small, habit = (size[0] // 4, size[1] // 4), habit.at(0.25)
    other = float(np.clip(confluence + rng.normal(0.0, 0.08), 0.0, 1.0))
    layer = grow_layer(small, other, habit, _streams(small, other, habit, rng), rng)
    change = phase_contrast(phase(layer, habit.scale, rng, detail=False), habit.scale)
    total = np.zeros(small, np.float32)
    for index in range(layers):
        # One layer, turned over for each of them: nobody can tell under such a blur.
        turned = change[:: (1, -1)[index % 2], :: (1, -1)[index // 2 % 2]]
        total += np.float32(rng.uniform(0.7, 1.2)) * blur(turned, rng.uniform(4.0, 9.0) * habit.scale)
    return enlarge(total, size)


def abnormal_boxes(layer: Layer) -> tuple[Box, ...]:
    """Give the tightest box around what each enlarged cell covers, in pixels, upper bounds exclusive."""
    boxes = []
    for index in np.flatnonzero(layer.cells.kind == Kind.ENLARGED):
        own = layer.mask & (layer.owner == index)
        rows, columns = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
        if len(rows):
            x1, y1, x2, y2 = (float(edge) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
            boxes.append(Box(x1, y1, x2, y2, ABNORMAL_LABEL))
    return tuple(boxes)
