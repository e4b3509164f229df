"""How whole groups are divided: a share of each class, with every class on every side."""

import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_MOST_SEEDS = 10
_MOST_FOLDS = 10
# Up to so many units the images are stratified, which costs about 0.2 ms a unit; beyond, the units
# are, each by its commonest class: with so many the shares come out even all the same.
_FEW_UNITS = 1000


def numbered(values: Iterable[str]) -> Ints:
    """Number values from 0 by their first appearance; equal values have equal numbers."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], np.int64)


def units_of(groups: Iterable[str], contents: Iterable[str]) -> Ints:
    """Give what must stay together, as ``joined_units`` does, from the names of groups and of contents."""
    group, content = numbered(groups), numbered(contents)
    return joined_units(group, content) if content.max() + 1 < len(content) else group


def joined_units(groups: Ints, contents: Ints) -> Ints:
    """Give what must stay together: images of one group, and groups that share an image's content.

    Args:
        groups: Group of each image, shape (N,), numbered from 0.
        contents: Content of each image, shape (N,), numbered from 0.

    Returns:
        Unit of each image, shape (N,), numbered from 0.
    """
    offset = int(groups.max()) + 1
    size = offset + int(contents.max()) + 1
    edges = coo_array((np.ones(len(groups), np.int8), (groups, offset + contents)), shape=(size, size))
    _, components = connected_components(edges, directed=False)
    units: Ints = np.unique(components[groups], return_inverse=True)[1].astype(np.int64)
    return units


def count_table(units: Ints, labels: Ints) -> Ints:
    """Count images.

    Args:
        units: Unit of each image, shape (N,), numbered from 0.
        labels: Class of each image, shape (N,), numbered from 0.

    Returns:
        Shape (units, classes).
    """
    shape = int(units.max()) + 1, int(labels.max()) + 1
    counts: Ints = np.bincount(units * shape[1] + labels, minlength=shape[0] * shape[1]).reshape(shape)
    return counts


def draw(table: Ints, *, share: float, held: Ints, target: Ints, leave: Ints, optional: bool, seed: int) -> Mask | None:
    """Choose units for one side of a split.

    Of many candidates the one is taken with which the side lacks the fewest classes and, among
    these, comes closest to its target in each class.

    Args:
        table: Images in the units to choose from, shape (units, classes).
        share: The share of these images that the candidates have.
        held: Images of each class that the side holds already.
        target: Images of each class that it should hold.
        leave: How many units with images of each class must not be chosen.
        optional: Whether to choose none is a candidate too.
        seed: Of the candidates.

    Returns:
        The chosen units, shape (units,), or None if every candidate leaves too few.
    """
    best, best_score = None, (np.inf, np.inf)
    for chosen in _candidates(table, share, optional=optional, seed=seed):
        if np.any((table[~chosen] > 0).sum(axis=0) < leave):
            continue
        result = held + table[chosen].sum(axis=0)
        lacking = float(np.sum((target > 0) & (result == 0)))
        imbalance = float(np.sum(np.abs(result - target) / np.maximum(target, 1)))
        if (lacking, imbalance) < best_score:
            best, best_score = chosen, (lacking, imbalance)
    return best


def deal(table: Ints, folds: int, *, seed: int) -> Ints:
    """Deal units into folds of about equal size and shares of classes.

    Of several deals the one is taken with which the fewest classes are missing from all folds but one
    and, among these, the folds come closest to equal shares of each class.

    Args:
        table: Images in each unit, shape (units, classes).
        folds: How many; no more than units, nor than the images of the commonest class.
        seed: Of the deals.

    Returns:
        Fold of each unit, shape (units,), from 0.
    """
    best, best_score = np.zeros(len(table), np.int64), (np.inf, np.inf)
    share = np.maximum(table.sum(axis=0) / folds, 1)
    for offset in range(_seeds(len(table))):
        fold = _folds(table, folds, seed + offset)
        counts = np.zeros((folds, table.shape[1]), np.int64)
        np.add.at(counts, fold, table)
        alone = float(((counts > 0).sum(axis=0) == 1).sum())
        imbalance = float((np.abs(counts - table.sum(axis=0) / folds) / share).sum())
        if (alone, imbalance) < best_score:
            best, best_score = fold, (alone, imbalance)
    return best


def _seeds(units: int) -> int:
    return max(2, min(_MOST_SEEDS, 2 * _FEW_UNITS // units))


def _candidates(table: Ints, share: float, *, optional: bool, seed: int) -> Iterator[Mask]:
    units = len(table)
    if optional:
        yield np.zeros(units, bool)
    if units <= _FEW_UNITS:
        # One unit is the least that can be chosen, so that some candidate leaves enough if any does.
        yield from np.eye(units, dtype=bool)
    most_folds = min(_MOST_FOLDS, units, int(table.sum(axis=0).max(initial=0)))
    if most_folds < 2:
        return
    folds, taken = min(
        ((folds, taken) for folds in range(2, most_folds + 1) for taken in range(1, folds)),
        key=lambda pair: (round(abs(pair[1] / pair[0] - share), 3), pair[0]),
    )
    for offset in range(_seeds(units)):
        fold = _folds(table, folds, seed + offset)
        for first in range(folds):
            chosen = (fold - first) % folds < taken
            if chosen.any():
                yield chosen


def _folds(table: Ints, folds: int, seed: int) -> Ints:
    """Deal units into folds, stratified by class; shape (units,), from 0."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    result = np.zeros(len(table), np.int64)
    with warnings.catch_warnings():
        # A class with fewer images than folds is what the score of the candidates looks after.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        if len(table) <= _FEW_UNITS:
            unit, label = np.nonzero(table)
            counts = table[unit, label]
            groups, labels = np.repeat(unit, counts), np.repeat(label, counts)
            splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            for number, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
                result[groups[rows]] = number
        else:
            commonest = table.argmax(axis=1)
            splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
            for number, (_, chosen) in enumerate(splitter.split(commonest, commonest)):
                result[chosen] = number
    return result
