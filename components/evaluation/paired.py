"""Two models on the same images: how far apart a figure of theirs lies, with bounds over vessels.

Every figure here is a ratio of sums over images, such as right answers over images. So one table of sums
by group, multiplied by how often each group is drawn, gives the whole bootstrap of all figures at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from components.evaluation.resampling import Floats, Integers, draws, group_index
from components.settings import GateSettings

# Below this many resamplings with a figure, none of its bounds means anything.
_FEWEST = 50


class Ratio(NamedTuple):
    """A figure of one model as a ratio of sums: what each image adds above and below the line, shape (N,) each."""

    above: Floats
    below: Floats


class Difference(NamedTuple):
    """A figure of the challenger less the champion's.

    Attributes:
        value: None where the figure is not defined.
        low: Lower bound, one-sided; None where the images cannot tell.
        high: Upper bound, one-sided.
        n: Images that have a say.
        groups: Split groups (vessels) among them.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int


def differences(
    pairs: Sequence[tuple[Ratio, Ratio]],
    groups: Sequence[str],
    settings: GateSettings,
    confidence: float | None = None,
) -> list[Difference]:
    """Give the difference of each figure between two models, with bounds that hold one at a time.

    Args:
        pairs: Of each figure, the challenger's and the champion's ratio.
        groups: The split group of each image, drawn as a whole.
        settings: Size and seed of the bootstrap.
        confidence: Of each bound; default: that of the settings.
    """
    unit = group_index(groups)
    count = int(unit.max()) + 1
    confidence = settings.confidence if confidence is None else confidence
    rows = np.stack([part for mine, theirs in pairs for part in (*mine, *theirs)])
    tallies = np.stack([np.bincount(unit, row, count) for row in rows])
    drawn = [_ratios_apart(tallies @ chunk.T) for chunk in draws(count, settings.bootstrap, settings.seed)]
    spread = np.concatenate(drawn, axis=1)
    values = _ratios_apart(tallies.sum(axis=1, keepdims=True))[:, 0]
    return [
        _difference(pair, unit, float(value), one, confidence)
        for pair, value, one in zip(pairs, values, spread, strict=True)
    ]


def _ratios_apart(sums: Floats) -> Floats:
    """Give the differences of K figures, shape (K, B), from their sums, shape (4 K, B); NaN where undefined."""
    above, below, their_above, their_below = (sums[part::4] for part in range(4))
    with np.errstate(invalid="ignore", divide="ignore"):
        apart: Floats = above / below - their_above / their_below
    return apart


def _difference(
    pair: tuple[Ratio, Ratio], unit: Integers, value: float, spread: Floats, confidence: float
) -> Difference:
    mine, theirs = pair
    counting = (mine.below + theirs.below) > 0
    n, groups = int(counting.sum()), len(np.unique(unit[counting]))
    if not np.isfinite(value):
        return Difference(None, None, None, n, groups)
    if all(np.array_equal(*parts) for parts in zip(mine, theirs, strict=True)):
        return Difference(0.0, 0.0, 0.0, n, groups)
    reach = _reach(spread, groups, confidence)
    if reach is None:
        return Difference(value, None, None, n, groups)
    return Difference(value, value - reach, value + reach, n, groups)


def _reach(spread: Floats, groups: int, confidence: float) -> float | None:
    """Give how far a one-sided bound lies from the figure, by its resampled values, shape (B,).

    Percentiles of them would be too sure of themselves, as no resampling is worse than the worst vessel, and of
    few vessels none is bad. So it is Student's t with as many groups times the bootstrap's standard error, which
    is itself too small by the factor of a variance that divides by n.
    """
    defined = spread[np.isfinite(spread)]
    if groups < 2 or len(defined) < _FEWEST:
        return None
    error = np.sqrt(groups / (groups - 1)) * defined.std()
    return float(stats.t.ppf(confidence, groups - 1) * error)
