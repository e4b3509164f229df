"""Anchors: the boxes from which a detector starts, and what they mean."""

import torch
from torch import Tensor

# A detector's three sizes and three shapes of anchors at each place (PAPER: RetinaNet).
SCALES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
RATIOS = (0.5, 1.0, 2.0)
PER_PLACE = len(SCALES) * len(RATIOS)
# Side of a level's smallest anchor, in places. RetinaNet's own 4 is made for things that fill a
# photograph; cells are small.
REACH = 2.0
# What offsets are divided by, so that they come out about as large as one another.
_SPREAD = (0.1, 0.1, 0.2, 0.2)
_MOST_GROWTH = 4.0  # logarithm of the largest factor that a box may differ from its anchor by

POSITIVE, NEGATIVE = 0.5, 0.4
IGNORED, BACKGROUND = -2, -1


def make_anchors(size: int, strides: tuple[int, ...]) -> Tensor:
    """Give the anchors of all levels, in the order of the heads' answers.

    Args:
        size: Side of the images, pixels.
        strides: Pixels from place to place, for each level.

    Returns:
        x1, y1, x2, y2 in pixels, shape (A, 4); they may reach beyond the image.
    """
    levels = []
    for stride in strides:
        places = -(-size // stride)
        centres = (torch.arange(places) + 0.5) * stride
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        middle = torch.stack([x, y], dim=-1)[:, :, None, :]
        shapes = [
            (REACH * stride * scale * ratio**-0.5, REACH * stride * scale * ratio**0.5)
            for scale in SCALES
            for ratio in RATIOS
        ]
        half = torch.tensor(shapes) / 2
        levels.append(torch.cat([middle - half, middle + half], dim=-1).reshape(-1, 4))
    return torch.cat(levels)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Give the offsets of boxes (..., 4) from their anchors (..., 4)."""
    place, extent = _centred(anchors)
    centre, size = _centred(boxes)
    spread = boxes.new_tensor(_SPREAD)
    return torch.cat([(centre - place) / extent, (size / extent).log()], dim=-1) / spread


def decode(offsets: Tensor, anchors: Tensor) -> Tensor:
    """Give the boxes (..., 4) that lie at offsets (..., 4) from their anchors."""
    place, extent = _centred(anchors)
    shift = offsets * offsets.new_tensor(_SPREAD)
    move, growth = shift[..., :2], shift[..., 2:]
    centre, half = place + move * extent, extent * growth.clamp(-_MOST_GROWTH, _MOST_GROWTH).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def assign(boxes: Tensor, present: Tensor, anchors: Tensor) -> Tensor:
    """Say which true box each anchor stands for.

    An anchor stands for the box that it overlaps most, if by ``POSITIVE``; below ``NEGATIVE`` it is
    background, and between the two it is ignored. Each box has at least the anchors that overlap it most.

    Args:
        boxes: Pixels, shape (N, M, 4), filled up to the most boxes of an image, M at least 1.
        present: Which of them there are, shape (N, M).
        anchors: Pixels, shape (A, 4).

    Returns:
        Number of the box, or ``BACKGROUND`` or ``IGNORED``; shape (N, A).
    """
    overlap = _overlap(boxes, anchors).masked_fill(~present[:, :, None], -1.0)
    best, chosen = overlap.max(dim=1)
    result = torch.where(best >= POSITIVE, chosen, torch.where(best < NEGATIVE, BACKGROUND, IGNORED))
    closest = overlap.amax(dim=2, keepdim=True)
    owned = (overlap == closest) & (closest > 0) & present[:, :, None]
    return torch.where(owned.any(dim=1), owned.int().argmax(dim=1), result)


def _overlap(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Intersection over union of boxes (N, M, 4) and anchors (A, 4), shape (N, M, A)."""
    low = torch.maximum(boxes[:, :, None, :2], anchors[:, :2])
    high = torch.minimum(boxes[:, :, None, 2:], anchors[:, 2:])
    common = (high - low).clamp(min=0).prod(dim=-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)
    own = (anchors[:, 2:] - anchors[:, :2]).prod(dim=-1)
    return common / (areas[:, :, None] + own - common).clamp(min=1e-9)


def _centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + size / 2, size
