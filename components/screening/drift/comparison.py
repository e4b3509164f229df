"""Two sets of images, as points: is one drawn as the other is?

The energy distance tells how much farther points of two sets lie from each other than within each. How large it gets
by chance is told twice, and the larger of two p-values counts. Vessels change sides by chance, as images of one
vessel are alike. And so do whole seeding runs, as vessels of one run (donor, lot, passage) are alike, too: a batch
that is a single run differs more than vessels drawn from many of them would. Where there are too few runs for that,
those of the reference are held against its rest, one after the other.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist

from components.evaluation.resampling import Floats, Integers, group_index

Sides = NDArray[np.bool_]

# Runs, or sets of as many runs as the batch has, from which on it is known how far they differ anyway.
FEWEST_RUNS = 3
_MOST_SETS = 200
# Ways to divide the runs from which on they can change sides as vessels do.
_MANY_DIVISIONS = 100
# Among equal statistics the order must not hang on the last digit.
_ALIKE = 1e-12


class Compared(NamedTuple):
    """A batch held against its reference.

    Attributes:
        statistic: Energy distance, times the product of the sides' groups over their sum.
        effect: The same distance as a share, 0 (alike) to 1 (nothing in common).
        p: Of the batch being like the reference: the larger of the two below.
        p_groups: By groups (vessels) that change sides.
        p_runs: By runs that do, or are held out; None where there are too few of them.
        least: The least p that so few groups can give.
    """

    statistic: float
    effect: float
    p: float
    p_groups: float
    p_runs: float | None
    least: float


def compare(
    points: Floats, groups: Integers, runs: Sequence[str], in_batch: Sides, *, permutations: int, seed: int
) -> Compared:
    """Compare a batch with its reference.

    Args:
        points: Images, on scales where distances mean something, shape (N, D).
        groups: Number of each image's group, from 0, shape (N,).
        runs: Of each group, the name of its run, (G,).
        in_batch: Of each group, whether it is the batch's, (G,); both sides have some.
        permutations: Of the groups; with so few groups that there are no more, all of them.
        seed: Of the permutations.
    """
    distances = mean_distances(points, groups)
    statistic, effect = (float(each[0]) for each in _energy(in_batch[np.newaxis], distances))
    p_groups = _p_of_units(distances, in_batch, permutations, np.random.default_rng(seed))
    p_runs = _p_of_runs(statistic, distances, np.asarray(runs), in_batch, permutations, seed)
    p = p_groups if p_runs is None else max(p_groups, p_runs)
    least = 1 / min(permutations + 1, comb(len(in_batch), int(in_batch.sum())))
    return Compared(statistic, effect, p, p_groups, p_runs, least)


def mean_distances(points: Floats, groups: Integers) -> Floats:
    """Give the mean distance between the images of each two groups, shape (G, G)."""
    return _blocks(cdist(points, points), groups)


def within_whitening(points: Floats, groups: Integers, indifferent: Floats) -> Floats:
    """Give the transform after which images of one group differ by about 1 in every direction, shape (D, D).

    It is made of both sides alike, as a test by permutation asks.

    Args:
        points: Shape (N, D).
        groups: Number of each image's group, from 0, shape (N,).
        indifferent: Covariance of changes that do not matter, (D, D), of full rank.
    """
    counts = np.bincount(groups)
    means = np.stack([np.bincount(groups, column) for column in points.T], axis=1) / counts[:, np.newaxis]
    # Without vessels each image is a group of its own: then the spread of all images must do.
    rest = points - (means[groups] if len(counts) < len(points) else points.mean(axis=0))
    values, vectors = np.linalg.eigh(rest.T @ rest / max(1, len(points) - len(counts)) + indifferent)
    result: Floats = vectors / np.sqrt(values)
    return result


def _blocks(distances: Floats, members: Integers) -> Floats:
    """Give the means of distances, shape (N, N), between what belongs together, (K, K); ``members`` has its number."""
    order = np.argsort(members, kind="stable")
    starts = np.flatnonzero(np.diff(members[order], prepend=-1))
    counts = np.diff(np.append(starts, len(members)))
    sums = np.add.reduceat(distances[np.ix_(order, order)], starts, axis=1)
    result: Floats = np.add.reduceat(sums, starts, axis=0) / np.outer(counts, counts)
    return result


def _p_of_units(distances: Floats, in_batch: Sides, permutations: int, rng: np.random.Generator) -> float:
    """Tell how often units that change sides by chance give as large a statistic."""
    statistics, _ = _energy(_divisions(in_batch, permutations, rng), distances)
    return float((statistics >= statistics[0] * (1 - _ALIKE) - _ALIKE).mean())


def _energy(sides: Sides, distances: Floats) -> tuple[Floats, Floats]:
    """Give the statistic and the effect of divisions of the groups, shape (P, G)."""
    first = sides.astype(np.float64)
    n1 = first.sum(axis=1)
    n2 = first.shape[1] - n1
    towards = first @ distances
    within = (towards * first).sum(axis=1)
    between = towards.sum(axis=1) - within
    other = distances.sum() - 2 * between - within
    apart = 2 * between / (n1 * n2)
    energy = apart - within / n1**2 - other / n2**2
    return energy * n1 * n2 / (n1 + n2), np.divide(energy, apart, out=np.zeros_like(energy), where=apart > 0)


def _divisions(in_batch: Sides, permutations: int, rng: np.random.Generator) -> Sides:
    """Give the actual division of the groups first, and then others of the same sizes, shape (P + 1, G)."""
    count, chosen = len(in_batch), int(in_batch.sum())
    if comb(count, chosen) <= permutations + 1:
        actual = tuple(np.flatnonzero(in_batch).tolist())
        picks = [actual, *(pick for pick in combinations(range(count), chosen) if pick != actual)]
        sides = np.zeros((len(picks), count), bool)
        for row, pick in zip(sides, picks, strict=True):
            row[list(pick)] = True
        return sides
    return np.stack([in_batch, *(rng.permutation(in_batch) for _ in range(permutations))])


def _p_of_runs(
    statistic: float, distances: Floats, runs: NDArray[np.str_], in_batch: Sides, permutations: int, seed: int
) -> float | None:
    """Tell how likely runs like those before are to differ as much; None where too few are known to tell."""
    mine, theirs = (len(np.unique(runs[side])) for side in (in_batch, ~in_batch))
    if comb(mine + theirs, mine) >= _MANY_DIVISIONS:
        unit = group_index([f"{int(side)} {run}" for side, run in zip(in_batch, runs, strict=True)])
        # Of the two sides' runs, the reference's are numbered first.
        sides = np.arange(mine + theirs) >= theirs
        return _p_of_units(_blocks(distances, unit), sides, permutations, np.random.default_rng(seed))
    if theirs // mine < FEWEST_RUNS:
        return None
    return _p_of_held_out(statistic, distances, runs, in_batch, np.random.default_rng(seed))


def _p_of_held_out(
    statistic: float, distances: Floats, runs: NDArray[np.str_], in_batch: Sides, rng: np.random.Generator
) -> float:
    """Hold runs of the reference, as many at a time as the batch has, against its rest.

    One over the roots of their statistics is taken to be normal, which is nearly so; the logs are skewed, and with so
    few runs, ranks could not give a small p.
    """
    theirs = runs[~in_batch]
    names, size = np.unique(theirs), len(np.unique(runs[in_batch]))
    sets = [[name] for name in names] if size == 1 else [rng.choice(names, size, False) for _ in range(_MOST_SETS)]
    rest = ~in_batch
    held_out, _ = _energy(np.stack([np.isin(theirs, each) for each in sets]), distances[np.ix_(rest, rest)])
    nearness, independent = 1 / np.sqrt(np.maximum(held_out, _ALIKE)), len(names) // size
    spread = max(float(nearness.std(ddof=1)), _ALIKE) * np.sqrt(1 + 1 / independent)
    surprise = (nearness.mean() - 1 / np.sqrt(max(statistic, _ALIKE))) / spread
    return float(stats.t.sf(surprise, independent - 1))
