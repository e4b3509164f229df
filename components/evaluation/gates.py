"""The gate: whether a model may be released, judged by rules that each show their figure and bound.

Pure: answers and settings in, a verdict out. Not knowing is not passing: a rule whose figure cannot
be computed refuses, unless its bound allows anything.
"""

from collections.abc import Sequence

import numpy as np

from components.culture import CLASSES, ConfluenceClass
from components.errors import DataError
from components.evaluation.calibration import calibration_error
from components.evaluation.comparison import NOT_WORSE, Compared, compare, no_champion
from components.evaluation.costs import Costs, cost_rules
from components.evaluation.independence import champion_note, independent
from components.evaluation.paired import Ratio
from components.evaluation.scored import Scored
from components.evaluation.verdict import Rule, Verdict, conclude, weigh
from components.settings import GateSettings

_MISSED = "missed overgrowth"


def judge(challenger: Scored, champion: Scored | None, settings: GateSettings, costs: Costs | None = None) -> Verdict:
    """Judge a model by its answers on the frozen test images.

    Args:
        challenger: Its answers.
        champion: The answers of the model in service on the same images, in any order; None if there is none.
        settings: Floors, margins, and the bootstrap's size and seed.
        costs: What the two models cost to run; None where answers alone are judged.

    Raises:
        DataError: if the two were not scored on the same images with the same labels, or on none.
    """
    if len(challenger) == 0:
        raise DataError("the test part holds no images, so no model can be judged; make a new split")
    rules = [
        independent(challenger.learnt),
        *_floors(challenger, settings),
        *_not_worse(challenger, champion, settings),
        *(cost_rules(costs, settings) if costs else ()),
    ]
    return conclude(rules, challenger, champion)


def _floors(scored: Scored, settings: GateSettings) -> list[Rule]:
    # The floors judge figures, not intervals, so the fewest resamplings will do.
    measured = scored.measured(resamples=1)
    rules = [
        weigh(
            "accuracy",
            measured.value("accuracy"),
            ">=",
            settings.min_accuracy,
            refusal="Accuracy is {figure}, below the floor of {bound}.",
        ),
        weigh(
            "within one class",
            measured.value("within_one_class"),
            ">=",
            settings.min_within_one_class,
            refusal="Of the answers, {figure} are right or one class off, below the floor of {bound}.",
        ),
        weigh(
            _MISSED,
            measured.value("missed_overgrowth"),
            "<=",
            settings.max_missed_overgrowth,
            refusal="Of the overgrown images, {figure} were called seeding or media change, more than {bound}.",
            unknown="no test image is of class 4, so whether the model misses overgrowth is unknown; "
            "add such images, or set gate.max_missed_overgrowth to 1",
            free=settings.max_missed_overgrowth == 1,
        ),
        *(_recall(each, measured.value(f"recall_{int(each)}"), settings) for each in CLASSES),
        weigh(
            "calibration error",
            calibration_error(scored.probabilities, scored.truth),
            "<=",
            settings.max_calibration_error,
            refusal="Confidence and accuracy lie {figure} apart, more than {bound}.",
            note="mean gap over ten bins of confidence; with few images, chance alone makes some",
        ),
    ]
    return [*rules, *([_beats_majority(scored, settings)] if settings.beat_majority else [])]


def _recall(each: ConfluenceClass, recall: float | None, settings: GateSettings) -> Rule:
    # Whoever does without images of class 4 has said so where overgrowth is asked for.
    waived = each == ConfluenceClass.OVERGROWN and settings.max_missed_overgrowth == 1 and recall is None
    return weigh(
        f"recall of class {int(each)}",
        recall,
        ">=",
        settings.min_class_recall,
        refusal=f"Of the images of class {int(each)} ({each.decision}), {{figure}} are called so, below the floor of "
        "{bound}.",
        unknown=f"no test image is of class {int(each)} ({each.decision}); add such images, "
        "or set gate.min_class_recall to 0",
        free=settings.min_class_recall == 0 or waived,
        note=each.decision,
    )


def _beats_majority(scored: Scored, settings: GateSettings) -> Rule:
    commonest = CLASSES[scored.majority_class - 1]
    note = f"always answering class {int(commonest)} ({commonest.decision}), the commonest in training"
    return weigh(
        "better than the commonest class",
        float(scored.right.mean()),
        ">",
        float((scored.truth == scored.majority_class).mean()),
        refusal=f"Accuracy is {{figure}}, no better than the {{bound}} of {note}.",
        note=note,
    )


def _not_worse(challenger: Scored, champion: Scored | None, settings: GateSettings) -> list[Rule]:
    if champion is None:
        return [no_champion()]
    order = _order(challenger, champion)
    one = np.ones(len(challenger))
    accuracy = [Ratio(right.astype(float), one) for right in (challenger.right, champion.right[order])]
    figures = [Compared(NOT_WORSE, "accuracy", accuracy[0], accuracy[1])]
    grown = (challenger.truth == ConfluenceClass.OVERGROWN).astype(float)
    if grown.any():
        missed = [
            Ratio(grown * (named <= ConfluenceClass.MEDIA_CHANGE), grown)
            for named in (challenger.predicted, champion.predicted[order])
        ]
        rule = f"not worse in {_MISSED}"
        figures.append(Compared(rule, f"the share of {_MISSED}", missed[0], missed[1], lower_is_better=True))
    classes = tuple(f"{int(each)} ({CLASSES[each - 1].decision})" for each in challenger.truth)
    slices = {"class": classes, **challenger.slices}
    return compare(figures, slices, challenger.groups, settings, champion_note(champion.learnt))


def _order(challenger: Scored, champion: Scored) -> Sequence[int]:
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
