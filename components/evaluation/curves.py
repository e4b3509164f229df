"""ROC and precision-recall curves, micro-averaged and of each class against the rest."""

import msgspec
import numpy as np

from components.culture import N_CLASSES
from components.evaluation.resampling import Floats, Integers

# More points than this cannot be told apart on a page.
MOST_POINTS = 200
MICRO = "all classes"


class Curve(msgspec.Struct, frozen=True):
    """Points of a curve, from left to right, and the area below it.

    Attributes:
        name: ``all classes`` (micro-averaged), or the class.
        x: False positive rate (ROC) or recall (precision-recall).
        y: True positive rate or precision.
        area: ROC AUC or average precision; it counts every point, also those left out here.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    area: float


def roc_curves(truth: Integers, probabilities: Floats) -> list[Curve]:
    """Give the ROC curves; a class that no image or every image has is left out.

    Args:
        truth: Classes 1 to 4, shape (N,).
        probabilities: Shape (N, 4).
    """
    return [_roc(name, *counts) for name, *counts in _rankings(truth, probabilities)]


def precision_recall_curves(truth: Integers, probabilities: Floats) -> list[Curve]:
    """Give the precision-recall curves, as ``roc_curves`` does."""
    return [_precision_recall(name, *counts) for name, *counts in _rankings(truth, probabilities)]


def _rankings(truth: Integers, probabilities: Floats) -> list[tuple[str, Floats, Floats]]:
    """For each curve, count true and false positives (cumulated) at each distinct score, descending."""
    hit = np.eye(N_CLASSES, dtype=bool)[truth - 1]
    pairs = [(MICRO, probabilities.ravel(), hit.ravel())]
    pairs += [(str(k + 1), probabilities[:, k], hit[:, k]) for k in range(N_CLASSES)]
    result = []
    for name, scores, positive in pairs:
        if positive.all() or not positive.any():
            continue
        _, rank = np.unique(-scores, return_inverse=True)
        true, false = np.bincount(rank, positive).cumsum(), np.bincount(rank, ~positive).cumsum()
        result.append((name, true, false))
    return result


def _roc(name: str, true: Floats, false: Floats) -> Curve:
    x, y = np.append(0, false / false[-1]), np.append(0, true / true[-1])
    return curve(name, x, y, float(np.trapezoid(y, x)))


def _precision_recall(name: str, true: Floats, false: Floats) -> Curve:
    recall, precision = true / true[-1], true / (true + false)
    area = float((np.diff(recall, prepend=0) * precision).sum())
    return curve(name, np.append(0, recall), np.append(precision[0], precision), area)


def curve(name: str, x: Floats, y: Floats, area: float) -> Curve:
    """Give a curve through points (n,), thinned out to what a page can show."""
    if len(x) > MOST_POINTS:
        # Evenly along the curve's own length, so that steep parts keep their shape.
        length = np.append(0, np.hypot(np.diff(x), np.diff(y)).cumsum())
        kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MOST_POINTS)).clip(0, len(x) - 1))
        x, y = x[kept], y[kept]
    return Curve(name, tuple(x.round(5).tolist()), tuple(y.round(5).tolist()), area)
