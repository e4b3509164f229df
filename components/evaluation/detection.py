"""What a detector's boxes are worth, with intervals over vessels.

Boxes are matched once; every figure is then a function of sums over images, so that a bootstrap that
draws whole groups only weighs them anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.boxes import IOU, Boxes, counts_by_score, match
from components.evaluation.metrics import Measured, figure_with_interval
from components.evaluation.resampling import (
    RESAMPLES,
    Floats,
    Integers,
    draws,
    group_index,
)

# False boxes an image at which FROC's mean takes the recall (Setio et al., Medical Image Analysis, 2017).
FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
# The score above which the paper counts the one best box of an image.
PAPER_SCORE = 0.5
# Boxes times resamplings that the bootstrap may cost, and how few it never falls below.
_BUDGET, _FEWEST_RESAMPLES = 200_000_000, 200
_CHUNK = 1 << 22

# What F1 may lose for a lower threshold: a missed abnormal cell costs more than a second look, and on few
# images F1 hardly tells neighbouring scores apart.
THRESHOLD_SLACK = 0.02
THRESHOLD_RULE = (
    "the lowest score at which F1, the balance of recall and precision, is on the validation images within "
    f"{THRESHOLD_SLACK:g} of its best; taken halfway to the next lower score"
)

Mask = NDArray[np.bool_]


def choose_threshold(truth: Boxes, found: Boxes, iou: float = IOU) -> float:
    """Give the score from which on boxes count; see ``THRESHOLD_RULE``.

    Args:
        truth: Every abnormal cell of validation images.
        found: What the detector found in them, down to a low score.
        iou: Overlap from which on a found box counts as the true one.

    Returns:
        A score; 1 where nothing right was found.
    """
    right = match(truth, found, iou) >= 0
    if not right.any():
        return 1.0
    scores, hits, misses = counts_by_score(found.scores, right)
    f1 = 2 * hits / (hits + misses + len(truth))
    last = int(np.flatnonzero(f1 >= f1.max() - THRESHOLD_SLACK)[-1])
    following = scores[last + 1] if last + 1 < len(scores) else scores[last]
    return float((scores[last] + following) / 2)


@dataclass(frozen=True, eq=False)
class Matched:
    """Found boxes and whether each is right, with what the images are like.

    Attributes:
        scores: Of the found boxes, descending, shape (M,).
        right: Whether each is matched to a true box, shape (M,).
        image: Which image each is on, shape (M,).
        truths: True boxes on each image, shape (N,).
    """

    scores: Floats
    right: Mask
    image: Integers
    truths: Integers

    @classmethod
    def of(cls, truth: Boxes, found: Boxes, iou: float) -> "Matched":
        """Match found boxes to true ones."""
        right = match(truth, found, iou) >= 0
        order = np.argsort(-found.scores, kind="stable")
        return cls(found.scores[order], right[order], found.image[order], truth.counts)

    @property
    def best(self) -> Integers:
        """Rows of each image's best box, for the images that have one."""
        return np.unique(self.image, return_index=True)[1].astype(np.int64)


def measure_detections(
    truth: Boxes,
    found: Boxes,
    groups: Sequence[str],
    *,
    threshold: float,
    iou: float = IOU,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Measured:
    """Measure found boxes against true ones.

    Args:
        truth: Every abnormal cell of the images.
        found: What the detector found in the same images, down to a low score.
        groups: The split group of each image.
        threshold: Score from which on a box counts, chosen on other images; see ``choose_threshold``.
        iou: Overlap from which on a found box counts as the true one. A second box on one cell is false.
        resamples: Bootstrap resamplings; very many boxes get fewer.
        seed: Of the bootstrap.

    Returns:
        Over all boxes of at least the threshold: ``recall``, ``false_discovery_rate``, ``f1``, ``false_per_image``
        and ``clean_images`` (share of the images without an abnormal cell in which none is found). Over all scores:
        ``average_precision`` and ``froc`` (mean recall at ``FROC_RATES`` false boxes an image). As the paper counts,
        the one best box of each image if its score is above ``PAPER_SCORE``: ``hit_rate`` (of the images with an
        abnormal cell, those in which it is right) and ``hit_false_discovery_rate`` (of these boxes, those that are
        wrong).

    Raises:
        ValueError: if there are no images, or the arguments are not about the same ones.
    """
    if truth.images == 0 or truth.images != found.images or len(groups) != truth.images:
        raise ValueError(f"true boxes on {truth.images} images, found ones on {found.images}, {len(groups)} groups")
    matched, unit = Matched.of(truth, found, iou), group_index(groups)
    n_groups = int(unit.max()) + 1
    resamples = min(resamples, max(_FEWEST_RESAMPLES, _BUDGET // max(len(found), 1)))
    tallies, names = _tallies(matched, threshold)
    by_group = np.stack([np.bincount(unit, row, n_groups) for row in tallies])
    drawn = [
        _ratios(dict(zip(names, by_group @ some.T, strict=True))) | _areas(matched, some[:, unit])
        for chunk in draws(n_groups, resamples, seed)
        for some in np.array_split(chunk, max(1, len(chunk) * len(found) // _CHUNK))
    ]
    exact = _ratios(dict(zip(names, tallies.sum(axis=1, keepdims=True), strict=True)))
    exact |= _areas(matched, np.ones((1, truth.images)))
    spread = {name: np.concatenate([each[name] for each in drawn]) for name in exact}
    units = {name: int(np.count_nonzero(by_group[names.index(what)])) for name, what in _PROPORTIONS.items()}
    figures = {name: figure_with_interval(float(exact[name][0]), spread[name], units.get(name)) for name in exact}
    return Measured(figures=figures, n=truth.images, groups=n_groups, resamples=resamples)


# What each proportion is a share of; groups without it have no say.
_PROPORTIONS = {
    "recall": "truths",
    "false_discovery_rate": "given",
    "clean_images": "empty",
    "hit_rate": "with_cell",
    "hit_false_discovery_rate": "best_given",
}


def _tallies(matched: Matched, threshold: float) -> tuple[Floats, list[str]]:
    """Count, in each image, what the figures at one score are made of; shape (counts, N), and their names."""
    images = len(matched.truths)
    given, best = matched.scores >= threshold, matched.best
    counted = best[matched.scores[best] > PAPER_SCORE]
    boxes = np.bincount(matched.image[given], minlength=images)
    empty = matched.truths == 0
    table = {
        "images": np.ones(images),
        "truths": matched.truths,
        "given": boxes,
        "right": np.bincount(matched.image[given & matched.right], minlength=images),
        "empty": empty,
        "clean": empty & (boxes == 0),
        "with_cell": ~empty,
        "best_given": np.bincount(matched.image[counted], minlength=images),
        "hit": np.bincount(matched.image[counted[matched.right[counted]]], minlength=images),
    }
    return np.stack([np.asarray(row, np.float64) for row in table.values()]), list(table)


def _ratios(of: dict[str, Floats]) -> dict[str, Floats]:
    """Give the figures at one score, of B sums each; NaN where undefined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "recall": of["right"] / of["truths"],
            "false_discovery_rate": 1 - of["right"] / of["given"],
            "f1": 2 * of["right"] / (of["given"] + of["truths"]),
            "false_per_image": (of["given"] - of["right"]) / of["images"],
            "clean_images": of["clean"] / of["empty"],
            "hit_rate": of["hit"] / of["with_cell"],
            "hit_false_discovery_rate": 1 - of["hit"] / of["best_given"],
        }


def _areas(matched: Matched, weights: Floats) -> dict[str, Floats]:
    """Give the figures over all scores, for images weighted in B ways, shape (B, N)."""
    hits, misses = _cumulated(matched, weights)
    truths, images = weights @ matched.truths, weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(hits + misses > 0, hits / (hits + misses), 0.0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        area = (np.diff(hits, axis=1, prepend=0) * envelope).sum(axis=1) / truths
        at_rates = [np.where(misses <= (rate * images)[:, None], hits, 0).max(axis=1, initial=0) for rate in FROC_RATES]
        return {"average_precision": area, "froc": np.mean(at_rates, axis=0) / truths}


def _cumulated(matched: Matched, weights: Floats) -> tuple[Floats, Floats]:
    """Sum right and wrong boxes of at least each distinct score, descending, each shape (B, scores)."""
    last = np.append(np.diff(matched.scores) != 0, np.ones(min(len(matched.scores), 1), bool))
    each = weights[:, matched.image]
    return (each * matched.right).cumsum(axis=1)[:, last], (each * ~matched.right).cumsum(axis=1)[:, last]


def precision_recall(matched: Matched) -> tuple[Floats, Floats]:
    """Give recall and precision at each distinct score, descending."""
    hits, misses = _cumulated(matched, np.ones((1, len(matched.truths))))
    return hits[0] / max(matched.truths.sum(), 1), hits[0] / np.maximum(hits[0] + misses[0], 1)


def froc(matched: Matched) -> tuple[Floats, Floats]:
    """Give false boxes an image and recall at each distinct score, descending."""
    hits, misses = _cumulated(matched, np.ones((1, len(matched.truths))))
    return misses[0] / len(matched.truths), hits[0] / max(matched.truths.sum(), 1)
