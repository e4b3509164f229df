"""What a model's answers are worth, with intervals over vessels.

Every figure is a function of sums over images. A bootstrap that draws whole groups is therefore one
product, the groups' tallies times how often each group was drawn, which takes a million predictions
within seconds.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from scipy import sparse

from components.culture import N_CLASSES
from components.evaluation.resampling import (
    LEVEL,
    RESAMPLES,
    Floats,
    Integers,
    draws,
    exact_interval,
    group_index,
    percentile_interval,
)

# Above this many distinct scores the resampled areas under curves use quantile bins, which moves
# them by less than 0.001; the figures themselves use every score.
_SCORE_BINS = 2000
# Images times resamplings that the bootstrap may cost, and how few it never falls below.
_BUDGET, _FEWEST_RESAMPLES = 400_000_000, 200
_CELLS = N_CLASSES * N_CLASSES
_STEPS = np.abs(np.subtract.outer(np.arange(N_CLASSES), np.arange(N_CLASSES))).astype(np.float64)


class Figure(msgspec.Struct, frozen=True):
    """A figure and its 95 % interval; None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one set of predictions.

    Attributes:
        figures: By name, in the order in which people read them.
        n: Images.
        groups: Split groups (vessels), the unit of the bootstrap.
        resamples: Bootstrap resamplings behind the intervals.
        level: Coverage that the intervals aim at.
    """

    figures: dict[str, Figure]
    n: int
    groups: int
    resamples: int
    level: float = LEVEL

    def value(self, name: str) -> float | None:
        """The figure itself, without its interval."""
        return self.figures[name].value


def measure(
    truth: Integers,
    probabilities: Floats,
    groups: Sequence[str],
    *,
    majority_class: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Measured:
    """Measure predictions.

    Args:
        truth: Classes 1 to 4, shape (N,).
        probabilities: Shape (N, 4), each row summing to 1.
        groups: The split group of each image.
        majority_class: Commonest class of the training part: the answer of a model without eyes.
        resamples: Bootstrap resamplings; very many images get fewer.
        seed: Of the bootstrap.

    Raises:
        ValueError: if there are no images, or the shapes do not belong together.
    """
    if len(truth) == 0 or probabilities.shape != (len(truth), N_CLASSES) or len(groups) != len(truth):
        raise ValueError(f"{len(truth)} labels, {len(groups)} groups, probabilities of shape {probabilities.shape}")
    unit = group_index(groups)
    cells = _cell_tallies(truth, predicted_classes(probabilities), unit)
    tallies = sparse.vstack([cells, *_score_tallies(truth, probabilities, unit, _SCORE_BINS)], format="csr")
    n_groups = tallies.shape[1]
    resamples = min(resamples, max(_FEWEST_RESAMPLES, _BUDGET // len(truth)))
    drawn = np.hstack([tallies @ chunk.T for chunk in draws(n_groups, resamples, seed)])
    spread = _figures_of(drawn[:_CELLS], majority_class) | _areas_of(*np.split(drawn[_CELLS:], 2))

    everything = np.zeros(len(truth), np.int64)
    positive, negative = _score_tallies(truth, probabilities, everything, None)
    exact = _figures_of(_totals(cells), majority_class) | _areas_of(positive.toarray(), negative.toarray())
    units = _groups_behind(cells.toarray())
    figures = {name: figure_with_interval(float(exact[name][0]), spread[name], units.get(name)) for name in _ORDER}
    return Measured(figures=figures, n=len(truth), groups=n_groups, resamples=resamples)


def predicted_classes(probabilities: Floats) -> Integers:
    """Give the class, 1 to 4, that each row of probabilities (N, 4) names."""
    index: Integers = probabilities.argmax(axis=1).astype(np.int64)
    return index + 1


def confusion(truth: Integers, predicted: Integers) -> Integers:
    """Count images by truth (rows) and prediction (columns), shape (4, 4)."""
    counts = np.zeros((N_CLASSES, N_CLASSES), np.int64)
    np.add.at(counts, (truth - 1, predicted - 1), 1)
    return counts


_ORDER = (
    "accuracy",
    "within_one_class",
    "balanced_accuracy",
    "quadratic_kappa",
    "mean_class_error",
    "missed_overgrowth",
    "roc_auc_micro",
    "pr_auc_micro",
    *(f"recall_{number}" for number in range(1, N_CLASSES + 1)),
    "majority_accuracy",
)


def _cell_tallies(truth: Integers, predicted: Integers, unit: Integers) -> sparse.csr_array:
    """Count the confusion matrix's cells in each group, shape (16, groups)."""
    cell = (truth - 1) * N_CLASSES + predicted - 1
    return _count(cell, unit, _CELLS)


def _score_tallies(
    truth: Integers, probabilities: Floats, unit: Integers, bins: int | None
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Count, in each group, the scores of right and of wrong classes by descending score, each (bins, groups).

    Micro-averaged and one-versus-rest: each image gives one positive and three negatives.
    """
    _, rank, counts = np.unique(-probabilities.ravel(), return_inverse=True, return_counts=True)
    if bins is not None and len(counts) > bins:
        rank = ((counts.cumsum() - counts) * bins // counts.sum())[rank]
    size = int(rank.max()) + 1
    hit = np.zeros(probabilities.shape, bool)
    hit[np.arange(len(truth)), truth - 1] = True
    owner, right = np.repeat(unit, N_CLASSES), hit.ravel()
    return _count(rank[right], owner[right], size), _count(rank[~right], owner[~right], size)


def _count(row: Integers, unit: Integers, rows: int) -> sparse.csr_array:
    shape = (rows, int(unit.max()) + 1)
    return sparse.coo_array((np.ones(len(row)), (row, unit)), shape=shape).tocsr()


def _totals(tallies: sparse.csr_array) -> Floats:
    totals: Floats = np.asarray(tallies.sum(axis=1), np.float64).reshape(-1, 1)
    return totals


def _figures_of(cells: Floats, majority_class: int) -> dict[str, Floats]:
    """Give the figures of B confusion matrices, shape (16, B): name to shape (B,), NaN where undefined."""
    matrix = cells.reshape(N_CLASSES, N_CLASSES, -1)
    total, actual, named = matrix.sum(axis=(0, 1)), matrix.sum(axis=1), matrix.sum(axis=0)
    off = matrix * _STEPS[:, :, np.newaxis]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = matrix.diagonal().T / actual
        present = (actual > 0).sum(axis=0)
        chance = np.einsum("ij,ib,jb->b", _STEPS**2, actual, named) / total
        return {
            "accuracy": matrix.trace() / total,
            "within_one_class": matrix[_STEPS <= 1].sum(axis=0) / total,
            "balanced_accuracy": np.nansum(recall, axis=0) / present,
            "quadratic_kappa": 1 - (off * _STEPS[:, :, np.newaxis]).sum(axis=(0, 1)) / chance,
            "mean_class_error": off.sum(axis=(0, 1)) / total,
            "missed_overgrowth": matrix[-1, :2].sum(axis=0) / actual[-1],
            "majority_accuracy": actual[majority_class - 1] / total,
            **{f"recall_{number}": row for number, row in enumerate(recall, start=1)},
        }


def _areas_of(positive: Floats, negative: Floats) -> dict[str, Floats]:
    """Give ROC AUC and average precision from counts by descending score, each of shape (scores, B)."""
    true, false = positive.cumsum(axis=0), negative.cumsum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Among equal scores, half of the pairs count as ordered rightly.
        ordered = (negative * (true - positive / 2)).sum(axis=0)
        precision = np.where(true + false > 0, true / (true + false), 0.0)
        return {
            "roc_auc_micro": ordered / (true[-1] * false[-1]),
            "pr_auc_micro": (precision * positive).sum(axis=0) / true[-1],
        }


def _groups_behind(cells: Floats) -> dict[str, int]:
    """Count the groups that have a say in each proportion."""
    having = cells.reshape(N_CLASSES, N_CLASSES, -1).sum(axis=1) > 0
    units = {f"recall_{number}": int(row.sum()) for number, row in enumerate(having, start=1)}
    every = dict.fromkeys(("accuracy", "within_one_class", "majority_accuracy"), int(cells.shape[1]))
    return units | every | {"missed_overgrowth": units[f"recall_{N_CLASSES}"]}


def figure_with_interval(value: float, spread: Floats, units: int | None) -> Figure:
    """Give a figure with the interval that its resampled values (B,) tell.

    Args:
        value: The figure; NaN where undefined.
        spread: Of the resamplings.
        units: Groups behind a proportion, None where the figure is none; see ``exact_interval``.
    """
    if not np.isfinite(value):
        return Figure(None)
    if units and value in (0.0, 1.0):
        return Figure(value, *exact_interval(value, units))
    return Figure(value, *percentile_interval(spread))
