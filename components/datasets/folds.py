"""Cross-validation: who trains, who chooses the epoch, and who is scored, fold by fold.

Three ways to cut the folds. ``group`` keeps vessels whole, and is what a figure should be read from;
``source`` leaves one laboratory (or donor, or any other column's value) out at a time; ``image`` is
what the study's authors published: single images are dealt out, so that a vessel's images stand on
both sides, and the epoch is chosen on the very fold that is scored (PAPER: faults).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from components.datasets.division import Ints, Mask, count_table, deal, draw, units_of
from components.datasets.manifest import ImageRecord
from components.errors import DataError

By = Literal["group", "image", "source"]
MOST_FOLDS = 20


@dataclass(frozen=True)
class Fold:
    """One fold: indexes into the records that it was cut from, ascending.

    Attributes:
        name: The fold's number from 1, or the value that is left out.
        train: Images that weights are fitted on.
        validation: Images that the epoch, the learning rate and the temperature are chosen on. They are
            apart from ``test``, except by ``image``, where they are the same, as published.
        test: Images that are scored.
    """

    name: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def make_folds(
    records: Sequence[ImageRecord],
    *,
    folds: int = 5,
    seed: int = 0,
    by: By = "group",
    validation_fraction: float = 0.2,
    column: str = "source",
    strata: Sequence[int | None] | None = None,
) -> tuple[Fold, ...]:
    """Cut folds, stratified; equal arguments give equal folds.

    By ``group`` and by ``source``, images of one group and images of the same bytes are in one part of
    a fold, and no part but ``test`` holds any of the scored fold. By ``source``, images that share a
    group or their bytes with the value left out are in no part.

    Args:
        records: The images; those without a stratum are in no fold.
        folds: How many; not used by ``source``, where each value of ``column`` is one.
        seed: Of the deal.
        by: What stays together; see the module.
        validation_fraction: The share of the training folds' images that becomes ``validation``.
        column: Of ``source``: a field of the records, or of their ``extra``.
        strata: What each image counts as, numbered from 0, None to leave it out; default: its confluence class.

    Raises:
        DataError: if there are too few classes, or too few groups, images or values for the folds.
    """
    if not 2 <= folds <= MOST_FOLDS:
        raise DataError(f"{folds} folds are not possible; take 2 to {MOST_FOLDS}")
    if not 0 < validation_fraction < 1:
        raise DataError(f"validation_fraction {validation_fraction} must lie between 0 and 1")
    if strata is None:
        strata = [None if record.confluence_class is None else record.confluence_class - 1 for record in records]
    kept = np.array([index for index, stratum in enumerate(strata) if stratum is not None], np.int64)
    chosen = [records[index] for index in kept]
    labels = np.array([stratum for stratum in strata if stratum is not None], np.int64)
    if len(set(labels.tolist())) < 2:
        raise DataError(f"{len(labels)} labelled images of one class or none cannot be cut into folds; label more")
    cut = _Cut(kept, labels, validation_fraction, seed)
    if by == "image":
        return cut.by_unit(np.arange(len(kept)), folds, "image", published=True)
    if by == "group":
        return cut.by_unit(_units(chosen), folds, "group or vessel", published=False)
    if by == "source":
        return cut.by_value(_units(chosen), [_value(record, column) for record in chosen], column)
    raise DataError(f"folds by '{by}' are not one of {', '.join(get_args(By))}")


def _units(records: Sequence[ImageRecord]) -> Ints:
    return units_of((record.split_group for record in records), (record.sha256 for record in records))


def _value(record: ImageRecord, column: str) -> str:
    value = record.extra.get(column) if column not in ImageRecord.__struct_fields__ else getattr(record, column)
    if value in (None, ""):
        raise DataError(f"image '{record.path}' has no '{column}', so that it cannot be left out with one; fill it in")
    return str(value)


@dataclass(frozen=True)
class _Cut:
    """The labelled images among the records, and how they are cut."""

    kept: Ints
    labels: Ints
    validation_fraction: float
    seed: int

    def by_unit(self, units: Ints, folds: int, what: str, *, published: bool) -> tuple[Fold, ...]:
        table = count_table(units, self.labels)
        self._check(table, folds, what)
        fold = deal(table, folds, seed=self.seed)
        self._check_trained(table, fold, what)
        dealt = fold[units]
        if published:
            return tuple(
                Fold(str(number + 1), self._rows(dealt != number), test, test)
                for number in range(folds)
                for test in (self._rows(dealt == number),)
            )
        return tuple(self._fold(str(number + 1), units, dealt == number, dealt != number) for number in range(folds))

    def by_value(self, units: Ints, values: Sequence[str], column: str) -> tuple[Fold, ...]:
        names = sorted(set(values))
        if len(names) < 2:
            raise DataError(f"'{column}' is '{names[0]}' for all images; to leave one out there must be 2 at least")
        array = np.array(values)
        return tuple(self._leave_out(name, units, array == name) for name in names)

    def _leave_out(self, name: str, units: Ints, test: Mask) -> Fold:
        rest = ~np.isin(units, units[test])
        if len(set(self.labels[rest].tolist())) < 2:
            raise DataError(f"without '{name}' there are fewer than 2 classes to train on; give images of other values")
        return self._fold(name, units, test, rest)

    def _fold(self, name: str, units: Ints, test: Mask, rest: Mask) -> Fold:
        numbers = np.unique(units[rest], return_inverse=True)[1].astype(np.int64)
        table = count_table(numbers, self.labels[rest])
        present = np.minimum(table.sum(axis=0), 1)
        chosen = draw(
            table,
            share=self.validation_fraction,
            held=np.zeros_like(present),
            target=np.maximum(np.rint(self.validation_fraction * table.sum(axis=0)).astype(np.int64), present),
            leave=present,
            optional=False,
            seed=self.seed,
        )
        if chosen is None:
            raise DataError(
                f"fold {name}: no validation part leaves every class in train; add groups or vessels, or change the "
                "number of folds"
            )
        validation = np.zeros(len(units), bool)
        validation[np.flatnonzero(rest)[chosen[numbers]]] = True
        return Fold(name, self._rows(rest & ~validation), self._rows(validation), self._rows(test))

    def _check(self, table: Ints, folds: int, what: str) -> None:
        if len(table) < folds:
            raise DataError(f"{folds} folds need at least {folds} of what is a {what}; there are {len(table)}")
        if (most := int(table.sum(axis=0).max())) < folds:
            raise DataError(f"{folds} folds need a class of at least {folds} images; the commonest has {most}")

    def _check_trained(self, table: Ints, fold: Ints, what: str) -> None:
        for label in np.flatnonzero(table.sum(axis=0)):
            if len(set(fold[table[:, label] > 0].tolist())) < 2:
                raise DataError(
                    f"all images of class {label + 1} are of one fold, which would be scored without having trained on "
                    f"them; add images of this class from another {what}, or leave the class out"
                )

    def _rows(self, mask: Mask) -> tuple[int, ...]:
        return tuple(self.kept[mask].tolist())
