"""Mean, standard deviation and interval of a figure over the folds of a cross-validation."""

from collections.abc import Sequence
from math import sqrt
from statistics import fmean, stdev

import msgspec
from scipy import stats

from components.evaluation.resampling import LEVEL


class Spread(msgspec.Struct, frozen=True):
    """A figure over folds; None where it is not defined.

    Attributes:
        mean: Over the folds in which the figure is defined.
        sd: Sample standard deviation (n - 1); None for fewer than two folds.
        low: Lower end of the 95 % interval of the mean, by Student's t; it may leave the figure's range.
        high: Upper end.
        n: Folds in which the figure is defined.
    """

    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    n: int


def spread(values: Sequence[float | None]) -> Spread:
    """Summarise a figure's values, one a fold.

    The folds of one cross-validation share most of their training images, so that the interval, which
    takes them for independent, is somewhat too narrow.
    """
    defined = [value for value in values if value is not None]
    if not defined:
        return Spread(None, None, None, None, 0)
    mean, n = fmean(defined), len(defined)
    if n < 2:
        return Spread(mean, None, None, None, n)
    sd = stdev(defined)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * sd / sqrt(n)
    return Spread(mean, sd, mean - half, mean + half, n)


def difference(first: Sequence[float | None], second: Sequence[float | None], *, paired: bool) -> Spread:
    """Give what a figure gains from ``second`` to ``first``.

    Args:
        first: Values, one a fold.
        second: The same of what it is held against.
        paired: Whether equal places are the same images, so that folds are compared one by one; else
            the interval is Welch's, and there is no standard deviation.
    """
    if paired:
        pairs = zip(first, second, strict=True)
        return spread([a - b if a is not None and b is not None else None for a, b in pairs])
    one, other = spread(first), spread(second)
    if one.mean is None or other.mean is None:
        return Spread(None, None, None, None, 0)
    mean, n = one.mean - other.mean, min(one.n, other.n)
    if one.sd is None or other.sd is None or one.sd == other.sd == 0:
        return Spread(mean, None, None, None, n)
    parts = one.sd**2 / one.n, other.sd**2 / other.n
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (one.n - 1) + parts[1] ** 2 / (other.n - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * sqrt(sum(parts))
    return Spread(mean, None, mean - half, mean + half, n)
