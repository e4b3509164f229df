"""Which side of a split each image is on, given the sides that its lineage has settled for life."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from components.datasets.division import Ints, Mask, count_table, draw, units_of
from components.datasets.frozen import Frozen
from components.errors import DataError
from components.settings import SplitSettings

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

LEAST_GROUPS = 3


class SidedImage(NamedTuple):
    """What matters of an image for the side that it is on.

    Attributes:
        label: Number of what it is stratified by, from 0.
        kind: The same for people.
    """

    path: str
    sha256: str
    group: str
    label: int
    kind: str


class _Settled(NamedTuple):
    """What the lineage did with each image, its content or its group."""

    tested: Mask
    learnt: Mask
    chosen_by: Mask
    trained: Mask

    def of_units(self, units: Ints) -> "_Settled":
        """Tell the same of what must stay together."""
        return _Settled(*(_units_with(images, units) for images in self))


def divide(images: Sequence[SidedImage], frozen: Frozen, settings: SplitSettings) -> list[Part | None]:
    """Give the part of each image, or None for one that is withheld.

    Raises:
        DataError: if there are too few groups of a class.
    """
    units = units_of((image.group for image in images), (image.sha256 for image in images))
    known = _settled(images, frozen)
    of_units = known.of_units(units)
    table = count_table(units, np.array([image.label for image in images], np.int64))
    names = {image.label: image.kind for image in reversed(images)}
    _check_groups(table, of_units.tested, names, has_test=bool(of_units.tested.any()))
    chosen = _draw_test(table, of_units.tested, of_units.learnt, settings)
    side = np.full(len(table), "train", object)
    side[chosen] = "test"
    side[_draw_validation(table, chosen, of_units, settings)] = "validation"
    both = zip(units, known.learnt, strict=True)
    return [None if side[unit] == "test" and learnt else side[unit] for unit, learnt in both]


def _settled(images: Sequence[SidedImage], frozen: Frozen) -> _Settled:
    groups, contents = set(frozen.learnt_groups), set(frozen.learnt_images)
    choosing, choosing_contents = set(frozen.validation_groups), set(frozen.validation_images)
    if not choosing:
        # A lineage of before these were kept: its validation part is drawn once more, and then kept.
        choosing, choosing_contents = groups, contents
    tested = _either(images, {image.group for image in frozen.test}, {image.sha256 for image in frozen.test})
    trained = _either(images, groups - choosing, contents - choosing_contents)
    chosen_by = _either(images, set(frozen.validation_groups), set(frozen.validation_images))
    return _Settled(tested, _either(images, groups, contents), chosen_by, trained)


def _either(images: Sequence[SidedImage], groups: set[str], contents: set[str]) -> Mask:
    return np.array([image.sha256 in contents or image.group in groups for image in images])


def _units_with(images: Mask, units: Ints) -> Mask:
    result = np.zeros(int(units.max()) + 1, bool)
    result[units[images]] = True
    return result


def _check_groups(table: Ints, in_test: Mask, names: Mapping[int, str], *, has_test: bool) -> None:
    free = (table[~in_test] > 0).sum(axis=0)
    needed = LEAST_GROUPS - 1 if has_test else LEAST_GROUPS
    for label in np.flatnonzero(table.sum(axis=0)):
        if free[label] < needed:
            beside = " beside the frozen test part" if has_test else ""
            parts = "train and validation need" if has_test else "train, validation and test need"
            raise DataError(
                f"class {names[int(label)]} has images in {free[label]} group(s) or vessel(s){beside}, but {parts} at "
                f"least one each; add images of this class from {needed - free[label]} more, or remove the class"
            )


def _draw_test(table: Ints, in_test: Mask, known: Mask, settings: SplitSettings) -> Mask:
    new = ~in_test & ~known
    held = table[in_test].sum(axis=0)
    fresh = table[new].sum(axis=0)
    # Its share of what is new, and what it still lacks of what is old, for instance because earlier
    # batches were single vessels.
    earlier = settings.test_fraction * (table.sum(axis=0) - fresh)
    target = _whole(np.maximum(held, earlier) + settings.test_fraction * fresh, table)
    kept: Ints = (table[known & ~in_test] > 0).sum(axis=0)
    leave = np.maximum(LEAST_GROUPS - 1 - kept, 0) * _present(table)
    chosen = in_test.copy()
    if new.any():
        drawn = draw(
            table[new],
            share=settings.test_fraction,
            held=held,
            target=target,
            leave=leave,
            optional=bool(in_test.any()),
            seed=settings.seed,
        )
        chosen[new] = _found(drawn)
    return chosen


def _draw_validation(table: Ints, in_test: Mask, settled: _Settled, settings: SplitSettings) -> Mask:
    """Keep the validation part and give it its share of what is new; what was trained on never joins it."""
    trained = settled.trained & ~in_test
    kept = settled.chosen_by & ~trained & ~in_test
    new = ~(in_test | trained | kept)
    chosen = _extended(table, kept, new, trained, settings)
    if chosen is None or not chosen.any():
        # Where what was kept is all that a class has, it is divided again.
        chosen = _extended(table, np.zeros_like(kept), kept | new, trained, settings)
    if chosen is None or not chosen.any():
        raise DataError("no division leaves every class in train; add vessels, or change the settings' section split")
    return chosen


def _extended(table: Ints, kept: Mask, new: Mask, trained: Mask, settings: SplitSettings) -> Mask | None:
    held, fresh = table[kept].sum(axis=0), table[new].sum(axis=0)
    leave = np.maximum(1 - (table[trained] > 0).sum(axis=0), 0) * _present(table[kept | new | trained])
    if not new.any():
        return None if leave.any() else kept
    earlier = settings.validation_fraction * (table.sum(axis=0) - fresh)
    drawn = draw(
        table[new],
        share=settings.validation_fraction / (1 - settings.test_fraction),
        held=held,
        target=_whole(np.maximum(held, earlier) + settings.validation_fraction * fresh, table),
        leave=leave,
        optional=bool(kept.any()),
        seed=settings.seed,
    )
    if drawn is None:
        return None
    chosen = kept.copy()
    chosen[new] = drawn
    return chosen


def _whole(target: NDArray[np.float64], table: Ints) -> Ints:
    """Round a target, but ask for at least one image of each class that there is."""
    return np.maximum(np.rint(target).astype(np.int64), _present(table))


def _present(table: Ints) -> Ints:
    """Give 1 for each class that there is, else 0."""
    present: Ints = np.minimum(table.sum(axis=0), 1)
    return present


def _found(drawn: Mask | None) -> Mask:
    if drawn is None:
        raise DataError("no division leaves every class in train; add vessels, or change the settings' section split")
    return drawn
