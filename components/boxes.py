"""Boxes on images: overlap, matching and average precision, with NumPy alone.

Corners are fractions of an image's width and height. The overlap (intersection over union) of two
boxes is the same in fractions, in pixels, and on an image that was squashed into a square.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# The overlap from which on a found box counts as the true one.
IOU = 0.5

# Pairs of boxes that are compared at once.
_CHUNK = 1 << 21


@dataclass(frozen=True, eq=False)
class Boxes:
    """Boxes on a series of images, found or true.

    Attributes:
        corners: x1, y1, x2, y2 as fractions of the image, shape (M, 4).
        scores: 0 to 1, shape (M,); 1 for true boxes.
        image: Which image each box is on, counted from 0 and ascending, shape (M,).
        images: How many images there are, those without a box included.
    """

    corners: Floats
    scores: Floats
    image: Integers
    images: int

    def __post_init__(self) -> None:
        if not self.corners.shape == (len(self.image), 4) or self.scores.shape != self.image.shape:
            raise ValueError(
                f"boxes of shape {self.corners.shape}, scores {self.scores.shape}, images {self.image.shape}"
            )
        if len(self.image) and (np.diff(self.image).min(initial=0) < 0 or self.image[-1] >= self.images):
            raise ValueError(f"images of the boxes must ascend and lie below {self.images}")

    @classmethod
    def of(cls, corners: Sequence[Floats], scores: Sequence[Floats] | None = None) -> Self:
        """Put together the boxes (n, 4) of each image and their scores (n,), which are 1 if not given."""
        counts = [len(each) for each in corners]
        stacked = np.concatenate([np.asarray(each, np.float64).reshape(-1, 4) for each in (*corners, _NO_BOXES)])
        flat = np.ones(len(stacked)) if scores is None else np.concatenate([*scores, np.zeros(0)]).astype(np.float64)
        return cls(stacked, flat, np.repeat(np.arange(len(counts)), counts), len(counts))

    def __len__(self) -> int:
        return len(self.image)

    @property
    def counts(self) -> Integers:
        """Boxes on each image, shape (images,)."""
        return np.bincount(self.image, minlength=self.images)

    def on(self, image: int) -> slice:
        """Give the rows of the boxes on one image."""
        first, end = np.searchsorted(self.image, [image, image + 1])
        return slice(int(first), int(end))

    def take(self, rows: NDArray[np.bool_] | Integers) -> "Boxes":
        """Give some of the boxes, chosen by a mask or by ascending row numbers."""
        return Boxes(self.corners[rows], self.scores[rows], self.image[rows], self.images)

    def of_images(self, images: Integers) -> "Boxes":
        """Give the boxes on some images, by ascending number, which are then counted from 0."""
        number = np.full(self.images, -1)
        number[images] = np.arange(len(images))
        rows = number[self.image] >= 0
        return Boxes(self.corners[rows], self.scores[rows], number[self.image[rows]], len(images))

    def above(self, score: float) -> "Boxes":
        """Give the boxes of at least a score."""
        return self.take(self.scores >= score)


_NO_BOXES = np.zeros((0, 4))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of a found and a true box on one image that overlap, by ascending row of the found one.

    Attributes:
        found: Row among the found boxes, shape (P,).
        truth: Row among the true boxes, shape (P,).
        overlap: Intersection over union, shape (P,).
    """

    found: Integers
    truth: Integers
    overlap: Floats


def overlaps(first: Floats, second: Floats) -> Floats:
    """Give the intersection over union of boxes, row by row; 0 where both have no area.

    Args:
        first: Shape (..., 4).
        second: Shape (..., 4), the same.
    """
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(np.maximum(each[..., 2:] - each[..., :2], 0), axis=-1) for each in (first, second)]
    union = areas[0] + areas[1] - common
    result: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return result


def overlapping(truth: Boxes, found: Boxes, iou: float = IOU) -> Pairs:
    """Give the pairs that overlap by at least ``iou``, which must be above 0.

    Raises:
        ValueError: if the two are not on the same number of images.
    """
    if truth.images != found.images:
        raise ValueError(f"true boxes on {truth.images} images, found ones on {found.images}")
    partners = truth.counts[found.image]
    firsts = np.searchsorted(truth.image, found.image)
    chunks = np.cumsum(partners) // _CHUNK
    kept = [_chunk(truth, found, rows, partners, firsts, iou) for rows in _runs(chunks)]
    return Pairs(*(np.concatenate(each) for each in zip(*kept, strict=True)))


def _runs(labels: Integers) -> list[Integers]:
    """Split the rows where the labels change; one empty run if there are no rows."""
    return np.split(np.arange(len(labels)), np.flatnonzero(np.diff(labels)) + 1)


def _chunk(
    truth: Boxes, found: Boxes, rows: Integers, partners: Integers, firsts: Integers, iou: float
) -> tuple[Integers, Integers, Floats]:
    of_found = np.repeat(rows, partners[rows])
    within = np.arange(len(of_found)) - np.repeat(np.cumsum(partners[rows]) - partners[rows], partners[rows])
    of_truth = firsts[of_found] + within
    overlap = overlaps(found.corners[of_found], truth.corners[of_truth])
    close = overlap >= iou
    return of_found[close], of_truth[close], overlap[close]


def match(truth: Boxes, found: Boxes, iou: float = IOU) -> Integers:
    """Give each found box the true one that it counts for, or -1; each true box is given once at most.

    In order of descending score, each found box takes the free true box on its image that it overlaps
    most, if by at least ``iou``. All images are matched at once: every found box asks for what it
    overlaps most, a true box keeps the best-scored asker, and whoever was turned away asks for the
    next. All true boxes prefer by the same order, so this ends where taking turns would.

    Args:
        truth: True boxes.
        found: Found boxes; of equal scores the earlier row goes first.
        iou: Least overlap, above 0.

    Returns:
        Rows of ``truth``, shape (len(found),).
    """
    pairs = overlapping(truth, found, iou)
    rank = np.empty(len(found), np.int64)
    rank[np.argsort(-found.scores, kind="stable")] = np.arange(len(found))
    result = np.full(len(found), -1)
    # Each found box's wishes, the most overlapping first.
    order = np.lexsort((-pairs.overlap, pairs.found))
    asker, wish = pairs.found[order], pairs.truth[order]
    while len(asker):
        asking = np.append(True, asker[1:] != asker[:-1])
        best = np.full(len(truth), len(found))
        np.minimum.at(best, wish[asking], rank[asker[asking]])
        # A wish is over once somebody with a better score holds it.
        over = rank[asker] > best[wish]
        if not over.any():
            result[asker[asking]] = wish[asking]
            break
        asker, wish = asker[~over], wish[~over]
    return result


def average_precision(scores: Floats, right: NDArray[np.bool_], truths: int) -> float | None:
    """Give the area under the precision-recall curve, precision made to fall (Pascal VOC from 2010 on, every point).

    Args:
        scores: Of the found boxes, shape (M,).
        right: Whether each is matched to a true box, shape (M,).
        truths: Number of true boxes.

    Returns:
        None without true boxes.
    """
    if truths == 0:
        return None
    found, wrong = counts_by_score(scores, right)[1:]
    precision = found / np.maximum(found + wrong, 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(found, prepend=0) * envelope) / truths)


def counts_by_score(scores: Floats, right: NDArray[np.bool_]) -> tuple[Floats, Integers, Integers]:
    """Count right and wrong boxes at or above each score.

    Returns:
        The distinct scores, descending, and for each the boxes of at least that score which are right, and wrong.
    """
    order = np.argsort(-scores, kind="stable")
    distinct, hits = scores[order], right[order]
    # Of equal scores only the last counts: no threshold can tell them apart.
    last = np.append(np.diff(distinct) != 0, np.ones(min(len(distinct), 1), bool))
    return distinct[last], np.cumsum(hits)[last], np.cumsum(~hits)[last]
