"""The gate of a detector; see ``components.evaluation.gates``."""

import numpy as np

from components.errors import DataError
from components.evaluation.comparison import NOT_WORSE, Compared, compare, no_champion
from components.evaluation.costs import Costs, cost_rules
from components.evaluation.detector.scored import BoxScored
from components.evaluation.independence import champion_note, independent
from components.evaluation.paired import Ratio
from components.evaluation.verdict import Relation, Rule, Verdict, conclude, weigh
from components.settings import GateSettings


def judge_detector(
    challenger: BoxScored, champion: BoxScored | None, settings: GateSettings, costs: Costs | None = None
) -> Verdict:
    """Judge a detector by what it finds in the frozen test images.

    Args:
        challenger: What it found.
        champion: What the detector in service found in the same images, looking for the same cells; None if there
            is none.
        settings: Floors, margins, and the bootstrap's size and seed.
        costs: What the two cost to run; None where boxes alone are judged.

    Raises:
        DataError: if the two were not scored on the same images and boxes, or on none.
    """
    if len(challenger) == 0:
        raise DataError("the test part holds no images, so no detector can be judged; make a new split")
    rules = [
        independent(challenger.learnt),
        *_floors(challenger, settings),
        *_not_worse(challenger, champion, settings),
        *(cost_rules(costs, settings) if costs else ()),
    ]
    return conclude(rules, challenger, champion)


def _floors(challenger: BoxScored, settings: GateSettings) -> list[Rule]:
    value = challenger.measured(resamples=1).value
    return [
        _floor(
            "recall",
            value("recall"),
            ">=",
            settings.min_recall,
            "Of the abnormal cells, {figure} are found, below the floor of {bound}.",
        ),
        _floor(
            "false discovery rate",
            # A detector that finds nothing has no false discoveries; its recall speaks for it.
            value("false_discovery_rate") or 0.0,
            "<=",
            settings.max_false_discovery,
            "Of the boxes found, {figure} are false, more than {bound}.",
        ),
        _floor(
            "average precision",
            value("average_precision"),
            ">=",
            settings.min_average_precision,
            f"Average precision at overlap {challenger.iou:g} is {{figure}}, below the floor of {{bound}}.",
        ),
    ]


def _floor(name: str, figure: float | None, relation: Relation, bound: float, refusal: str) -> Rule:
    unknown = "no test image shows an abnormal cell; add such images"
    return weigh(name, figure, relation, bound, refusal=refusal, unknown=unknown)


def _not_worse(challenger: BoxScored, champion: BoxScored | None, settings: GateSettings) -> list[Rule]:
    if champion is None:
        return [no_champion()]
    _check_same(challenger, champion)
    mine, theirs = challenger.tallies, champion.tallies
    figures = [
        Compared(NOT_WORSE, "F1", _f1(mine), _f1(theirs)),
        Compared("not worse in recall", "recall", _recall(mine), _recall(theirs)),
    ]
    return compare(figures, challenger.slices, challenger.groups, settings, champion_note(champion.learnt))


def _f1(tallies: np.typing.NDArray[np.float64]) -> Ratio:
    right, given, truths = tallies
    return Ratio(2 * right, given + truths)


def _recall(tallies: np.typing.NDArray[np.float64]) -> Ratio:
    right, _, truths = tallies
    return Ratio(right, truths)


def _check_same(challenger: BoxScored, champion: BoxScored) -> None:
    if challenger.paths != champion.paths or challenger.sha256s != champion.sha256s:
        raise DataError("challenger and champion were scored on other images; score both on one split's test part")
    if not np.array_equal(challenger.truth.corners, champion.truth.corners):
        raise DataError("challenger and champion were scored on other boxes; score both on the same labels")
