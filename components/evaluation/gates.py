"""The gate: whether a model may be released, judged by rules that each show their figure and bound.

Pure: answers and settings in, a verdict out. Not knowing is not passing: a rule whose figure cannot
be computed refuses, unless its bound allows anything.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np

from components.culture import CLASSES
from components.errors import DataError
from components.evaluation.resampling import (
    Floats,
    Interval,
    draws,
    group_index,
    percentile_interval,
)
from components.evaluation.scored import Scored
from components.settings import GateSettings

# Shares of images that differ by less than this are equal.
_SAME = 1e-9


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule and how the model fared.

    Attributes:
        name: What is looked at.
        figure: The model's value; None where it cannot be computed.
        bound: What the value is held against; None where the rule does not apply.
        relation: How the figure must stand to the bound: ``>=``, ``>`` or ``<=``.
        passed: The verdict.
        note: What else a reader must know, such as an interval; may be empty.
    """

    name: str
    figure: float | None
    bound: float | None
    relation: str
    passed: bool
    note: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model may be released.

    Attributes:
        passed: Whether every rule passed.
        reasons: A sentence a rule that refused; empty when all passed.
        rules: Every rule, in the order of judging.
        challenger: Digest of the model judged.
        champion: Digest of the model it was held against, if there is one.
        n: Test images that both were scored on.
        groups: Split groups (vessels) among them.
    """

    passed: bool
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]
    challenger: str
    champion: str | None
    n: int
    groups: int


def judge(challenger: Scored, champion: Scored | None, settings: GateSettings) -> Verdict:
    """Judge a model by its answers on the frozen test images.

    Args:
        challenger: Its answers.
        champion: The answers of the model in service on the same images, in any order; None if there is none.
        settings: Floors, margin, and the bootstrap's size and seed.

    Raises:
        DataError: if the two were not scored on the same images with the same labels, or on none.
    """
    if len(challenger) == 0:
        raise DataError("the test part holds no images, so no model can be judged; make a new split")
    rules = [*_floors(challenger, settings), _not_worse(challenger, champion, settings)]
    reasons = tuple(_reason(rule) for rule in rules if not rule.passed)
    return conclude(rules, reasons, challenger, champion)


class Judged(Protocol):
    """A model's answers, of whatever kind, for some images."""

    @property
    def model(self) -> str:
        """Digest of the model."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The split group of each image."""

    def __len__(self) -> int: ...


def conclude(rules: Sequence[Rule], reasons: tuple[str, ...], challenger: Judged, champion: Judged | None) -> Verdict:
    """Put rules, and a sentence for each that refused, together as the verdict on a model."""
    return Verdict(
        passed=not reasons,
        reasons=reasons,
        rules=tuple(rules),
        challenger=challenger.model,
        champion=champion.model if champion else None,
        n=len(challenger),
        groups=len(set(challenger.groups)),
    )


_ACCURACY, _WITHIN, _MISSED = "accuracy", "within one class", "missed overgrowth"
_MAJORITY, _NOT_WORSE = "better than the commonest class", "not worse than the champion"

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda figure, bound: figure >= bound - _SAME,
    "<=": lambda figure, bound: figure <= bound + _SAME,
    ">": lambda figure, bound: figure > bound + _SAME,
}

_UNKNOWN = {
    _MISSED: "no test image is of class 4, so whether the model misses overgrowth is unknown; "
    "add such images, or set gate.max_missed_overgrowth to 1",
}


def compare(figure: float, relation: str, bound: float) -> bool:
    """Say whether a figure stands to its bound as a rule asks; shares that are almost equal are equal."""
    return _COMPARE[relation](figure, bound)


def _floors(scored: Scored, settings: GateSettings) -> list[Rule]:
    # The floors judge figures, not intervals, so the fewest resamplings will do.
    measured = scored.measured(resamples=1)
    accuracy = measured.value("accuracy")
    rules = [
        _rule(_ACCURACY, accuracy, ">=", settings.min_accuracy),
        _rule(_WITHIN, measured.value("within_one_class"), ">=", settings.min_within_one_class),
        _rule(_MISSED, measured.value("missed_overgrowth"), "<=", settings.max_missed_overgrowth),
    ]
    if settings.beat_majority:
        commonest = CLASSES[scored.majority_class - 1]
        note = f"always answering class {int(commonest)} ({commonest.decision}), the commonest in training"
        rules.append(_rule(_MAJORITY, accuracy, ">", measured.value("majority_accuracy"), note))
    return rules


def _rule(name: str, figure: float | None, relation: str, bound: float | None, note: str = "") -> Rule:
    if figure is None or bound is None:
        allows_anything = relation == "<=" and bound == 1
        return Rule(
            name=name, figure=figure, bound=bound, relation=relation, passed=allows_anything, note=_UNKNOWN[name]
        )
    passed = _COMPARE[relation](figure, bound)
    return Rule(name=name, figure=figure, bound=bound, relation=relation, passed=passed, note=note)


def _not_worse(challenger: Scored, champion: Scored | None, settings: GateSettings) -> Rule:
    if champion is None:
        note = "there is no champion yet"
        return Rule(name=_NOT_WORSE, figure=None, bound=None, relation=">=", passed=True, note=note)
    difference = challenger.right.astype(float) - champion.right[_order(challenger, champion)]
    groups = len(set(challenger.groups))
    low, high = paired_interval(difference, challenger.groups, settings.bootstrap, settings.seed)
    if low is None or high is None:
        span = "the same in every resampling of"
    else:
        span = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f} points over"
    note = f"difference in accuracy; {span} {groups} groups"
    return _rule(_NOT_WORSE, float(difference.mean()), ">=", 0.0 - settings.margin, note)


def paired_interval(difference: Floats, groups: tuple[str, ...], resamples: int, seed: int) -> Interval:
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


def _order(challenger: Scored, champion: Scored) -> list[int]:
    """Give the champion's row for each image of the challenger."""
    theirs = {path: row for row, path in enumerate(champion.paths)}
    only = sorted(set(challenger.paths) ^ set(theirs))
    if only or not len(theirs) == len(champion) == len(challenger):
        raise DataError(
            f"challenger and champion were scored on {len(challenger)} and {len(champion)} images that are not the "
            f"same{f', such as {only[0]!r}' if only else ''}; score both on one split's test part"
        )
    rows = [theirs[path] for path in challenger.paths]
    for mine, row in enumerate(rows):
        if challenger.sha256s[mine] != champion.sha256s[row] or challenger.truth[mine] != champion.truth[row]:
            raise DataError(
                f"image '{challenger.paths[mine]}' has another content or label for the champion than for the "
                "challenger; score both on one data version"
            )
    return rows


def _reason(rule: Rule) -> str:
    if rule.figure is None or rule.bound is None:
        return f"{rule.name.capitalize()} cannot be judged: {rule.note}."
    figure, bound = f"{100 * abs(rule.figure):.1f}", f"{100 * abs(rule.bound):.1f}"
    return {
        _ACCURACY: f"Accuracy is {figure} %, below the floor of {bound} %.",
        _WITHIN: f"Of the answers, {figure} % are right or one class off, below the floor of {bound} %.",
        _MISSED: f"Of the overgrown images, {figure} % were called seeding or media change, more than {bound} %.",
        _MAJORITY: f"Accuracy is {figure} %, no better than the {bound} % of {rule.note}.",
        _NOT_WORSE: f"Accuracy is {figure} points below the champion's, where {bound} are allowed ({rule.note}).",
    }[rule.name]
