"""The bootstrap over groups: images of one vessel are alike, so whole vessels are drawn, not images."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 2000

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Interval = tuple[float | None, float | None]

# Draws held in memory at once, as float64, and so few that they are kept for the next figure.
_CHUNK, _KEPT = 1 << 23, 1 << 20


def group_index(groups: Sequence[str]) -> Integers:
    """Number the groups from 0; gives one number an image, shape (N,)."""
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)


def draws(groups: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Say how often each group is drawn in each resampling, in chunks of shape (some, groups)."""
    if groups * resamples <= _KEPT:
        yield _kept_draws(groups, resamples, seed)
        return
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // groups)
    for start in range(0, resamples, step):
        yield _drawn(groups, min(step, resamples - start), rng)


@lru_cache(maxsize=4)
def _kept_draws(groups: int, resamples: int, seed: int) -> Floats:
    kept = _drawn(groups, resamples, np.random.default_rng(seed))
    kept.setflags(write=False)
    return kept


def _drawn(groups: int, resamples: int, rng: np.random.Generator) -> Floats:
    counts = np.empty((resamples, groups))
    for row in counts:
        row[:] = np.bincount(rng.integers(0, groups, groups), minlength=groups)
    return counts


def percentile_interval(spread: Floats) -> Interval:
    """Give the central 95 % of resampled values, shape (B,).

    None where the resamplings cannot tell: all equal, or undefined in more than half of them.
    """
    defined = spread[np.isfinite(spread)]
    if len(defined) * 2 < len(spread) or np.ptp(defined) == 0:
        return None, None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def exact_interval(proportion: float, units: int) -> Interval:
    """Give the Clopper-Pearson interval of a proportion that is exactly 0 or 1 in each of ``units`` groups.

    There a bootstrap sees no variation at all, and would claim to be certain.
    """
    tail = ((1 - LEVEL) / 2) ** (1 / units)
    return (tail, 1.0) if proportion == 1 else (0.0, 1 - tail)


def paired_interval(difference: Floats, groups: Sequence[str], resamples: int, seed: int) -> Interval:
    """Give the bootstrap interval of a mean difference between two models on the same images.

    Args:
        difference: An image's score from the one model less that from the other, shape (N,).
        groups: The split group of each image, drawn as a whole.
        resamples: How often to draw.
        seed: Of the bootstrap.
    """
    unit = group_index(groups)
    sums, sizes = np.bincount(unit, difference), np.bincount(unit)
    drawn = [(chunk @ sums) / (chunk @ sizes) for chunk in draws(len(sizes), resamples, seed)]
    return percentile_interval(np.concatenate(drawn))
