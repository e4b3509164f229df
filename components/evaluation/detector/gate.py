"""The gate of a detector; see ``components.evaluation.gates``."""

import numpy as np

from components.errors import DataError
from components.evaluation.detector.scored import BoxScored
from components.evaluation.gates import Rule, Verdict, compare, conclude
from components.evaluation.resampling import Interval, draws, group_index, percentile_interval
from components.settings import GateSettings

RECALL, FALSE, PRECISION = "recall", "false discovery rate", "average precision"
NOT_WORSE = "not worse than the champion"


def judge_detector(challenger: BoxScored, champion: BoxScored | None, settings: GateSettings) -> Verdict:
    """Judge a detector by what it finds in the frozen test images.

    Args:
        challenger: What it found.
        champion: What the detector in service found in the same images, looking for the same cells; None if there
            is none.
        settings: Floors, margin, and the bootstrap's size and seed.

    Raises:
        DataError: if the two were not scored on the same images and boxes, or on none.
    """
    if len(challenger) == 0:
        raise DataError("the test part holds no images, so no detector can be judged; make a new split")
    measured = challenger.measured(resamples=1)
    rules = [
        _rule(RECALL, measured.value("recall"), ">=", settings.min_recall),
        # A detector that finds nothing has no false discoveries; its recall speaks for it.
        _rule(FALSE, measured.value("false_discovery_rate") or 0.0, "<=", settings.max_false_discovery),
        _rule(PRECISION, measured.value("average_precision"), ">=", settings.min_average_precision),
        _not_worse(challenger, champion, settings),
    ]
    reasons = tuple(_reason(rule, challenger) for rule in rules if not rule.passed)
    return conclude(rules, reasons, challenger, champion)


def _rule(name: str, figure: float | None, relation: str, bound: float, note: str = "") -> Rule:
    if figure is None:
        note = "no test image shows an abnormal cell; add such images"
        return Rule(name=name, figure=None, bound=bound, relation=relation, passed=False, note=note)
    passed = compare(figure, relation, bound)
    return Rule(name=name, figure=figure, bound=bound, relation=relation, passed=passed, note=note)


def _not_worse(challenger: BoxScored, champion: BoxScored | None, settings: GateSettings) -> Rule:
    if champion is None:
        note = "there is no champion yet"
        return Rule(name=NOT_WORSE, figure=None, bound=None, relation=">=", passed=True, note=note)
    _check_same(challenger, champion)
    difference, (low, high) = _paired(challenger, champion, settings)
    groups = len(set(challenger.groups))
    if low is None or high is None:
        span = "the same in every resampling of"
    else:
        span = f"95 % interval {100 * low:+.1f} to {100 * high:+.1f} points over"
    return _rule(NOT_WORSE, difference, ">=", 0.0 - settings.margin, f"difference in F1; {span} {groups} groups")


def _check_same(challenger: BoxScored, champion: BoxScored) -> None:
    if challenger.paths != champion.paths or challenger.sha256s != champion.sha256s:
        raise DataError("challenger and champion were scored on other images; score both on one split's test part")
    if not np.array_equal(challenger.truth.corners, champion.truth.corners):
        raise DataError("challenger and champion were scored on other boxes; score both on the same labels")


def _paired(challenger: BoxScored, champion: BoxScored, settings: GateSettings) -> tuple[float, Interval]:
    """Give the difference in F1, and its bootstrap interval over groups."""
    unit = group_index(challenger.groups)
    tables = [
        np.stack([np.bincount(unit, row, int(unit.max()) + 1) for row in each.tallies])
        for each in (challenger, champion)
    ]
    drawn = [
        _f1(tables[0] @ chunk.T) - _f1(tables[1] @ chunk.T)
        for chunk in draws(tables[0].shape[1], settings.bootstrap, settings.seed)
    ]
    totals = [_f1(table.sum(axis=1, keepdims=True))[0] for table in tables]
    return float(totals[0] - totals[1]), percentile_interval(np.concatenate(drawn))


def _f1(tallies: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.float64]:
    right, given, truths = tallies
    result: np.typing.NDArray[np.float64] = 2 * right / np.maximum(given + truths, 1)
    return result


def _reason(rule: Rule, challenger: BoxScored) -> str:
    if rule.figure is None or rule.bound is None:
        return f"{rule.name.capitalize()} cannot be judged: {rule.note}."
    figure, bound = f"{100 * abs(rule.figure):.1f}", f"{100 * abs(rule.bound):.1f}"
    return {
        RECALL: f"Of the abnormal cells, {figure} % are found, below the floor of {bound} %.",
        FALSE: f"Of the boxes found, {figure} % are false, more than {bound} %.",
        PRECISION: f"Average precision at overlap {challenger.iou:g} is {figure} %, below the floor of {bound} %.",
        NOT_WORSE: f"F1 is {figure} points below the champion's, where {bound} are allowed ({rule.note}).",
    }[rule.name]
