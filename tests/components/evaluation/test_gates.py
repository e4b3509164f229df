import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import DataError
from components.evaluation.gates import judge
from components.settings import GateSettings

ANYTHING_GOES = {
    "min_accuracy": 0.0,
    "min_within_one_class": 0.0,
    "max_missed_overgrowth": 1.0,
    "min_class_recall": 0.0,
    "max_calibration_error": 1.0,
    "beat_majority": False,
    "max_loss": 1.0,
    "slice_margin": 1.0,
    "bootstrap": 200,
}
TRUTH = [1] * 40 + [2] * 30 + [3] * 20 + [4] * 10
RULES = (
    "test images it learnt from",
    "accuracy",
    "within one class",
    "missed overgrowth",
    "recall of class 1",
    "recall of class 2",
    "recall of class 3",
    "recall of class 4",
    "calibration error",
    "better than the commonest class",
    "not worse than the champion",
)


@pytest.fixture
def naming(make_scored):
    """Answers that name the given classes."""

    def build(named, truth=TRUTH, **changes):
        return make_scored(truth=truth, logits=np.eye(4)[np.asarray(named) - 1] * 5, **changes)

    return build


def rules_of(verdict):
    return {rule.name: rule for rule in verdict.rules}


def refused(verdict):
    return [rule.name for rule in verdict.rules if not rule.passed]


def test_a_good_first_model_passes_and_every_rule_shows_its_figure(naming):
    verdict = judge(naming(TRUTH, model="1" * 64), None, GateSettings())
    assert verdict.passed and verdict.reasons == ()
    assert tuple(rules_of(verdict)) == RULES
    assert (verdict.challenger, verdict.champion, verdict.n, verdict.groups) == ("1" * 64, None, 100, 12)
    rules = rules_of(verdict)
    assert (rules["accuracy"].figure, rules["accuracy"].bound) == (1.0, 0.5)
    assert (rules["better than the commonest class"].figure, rules["better than the commonest class"].bound) == (
        1.0,
        0.4,
    )
    assert (rules["recall of class 3"].figure, rules["recall of class 3"].note) == (1.0, "subculture")
    assert rules["calibration error"].figure < 0.05
    assert rules["not worse than the champion"].note == "there is no champion yet"


@pytest.mark.parametrize(
    ("named", "floor"),
    [
        # 49 of 100 right, everything else at most one class off, overgrowth found.
        ([2] * 31 + [1] * 9 + [2] * 30 + [3] * 10 + [2] * 10 + [4] * 10, {"min_accuracy": 0.6}),
        # 84 within one class.
        ([1] * 24 + [3] * 16 + [2] * 30 + [3] * 20 + [4] * 10, {"min_within_one_class": 0.85}),
        # 4 of 10 overgrown images called media change.
        (TRUTH[:90] + [4] * 6 + [2] * 4, {"max_missed_overgrowth": 0.34}),
        # Of the 20 images to be subcultured, 4 are called so.
        (TRUTH[:74] + [4] * 16 + TRUTH[90:], {"min_class_recall": 0.25}),
        # Half right, and almost certain each time.
        ([1] * 40 + [1] * 30 + [1] * 20 + [4] * 10, {"max_calibration_error": 0.2}),
        # Always the commonest class.
        ([1] * 100, {"beat_majority": True}),
    ],
)
def test_each_floor_refuses_by_itself(naming, named, floor):
    rule = {
        "min_accuracy": "accuracy",
        "min_within_one_class": "within one class",
        "max_missed_overgrowth": "missed overgrowth",
        "min_class_recall": "recall of class 3",
        "max_calibration_error": "calibration error",
        "beat_majority": "better than the commonest class",
    }
    (setting,) = floor
    assert judge(naming(named), None, GateSettings(**ANYTHING_GOES)).passed
    assert refused(judge(naming(named), None, GateSettings(**ANYTHING_GOES | floor))) == [rule[setting]]


@pytest.mark.parametrize(("right", "passed"), [(50, True), (49, False)])
def test_a_floor_includes_its_bound(naming, right, passed):
    named = [1 if row < right else 2 for row in range(100)]
    verdict = judge(naming(named, truth=[1] * 100), None, GateSettings(**ANYTHING_GOES | {"min_accuracy": 0.5}))
    assert verdict.passed is passed


@pytest.mark.parametrize(("missed", "passed"), [(3, True), (4, False)])
def test_a_ceiling_includes_its_bound(naming, missed, passed):
    named = TRUTH[:90] + [1] * missed + [4] * (10 - missed)
    verdict = judge(naming(named), None, GateSettings(**ANYTHING_GOES | {"max_missed_overgrowth": 0.3}))
    assert verdict.passed is passed


def test_unknown_is_not_passed(naming):
    truth = [1] * 5 + [2] * 5 + [3] * 5
    verdict = judge(naming(truth, truth=truth), None, GateSettings())
    assert refused(verdict) == ["missed overgrowth", "recall of class 4"]
    assert rules_of(verdict)["missed overgrowth"].figure is None
    assert "no test image is of class 4" in verdict.reasons[0]
    assert "gate.max_missed_overgrowth to 1" in verdict.reasons[0]
    # Whoever says that overgrowth need not be found says so of that class alone.
    assert judge(naming(truth, truth=truth), None, GateSettings(max_missed_overgrowth=1)).passed
    without = judge(naming(truth[:10], truth=truth[:10]), None, GateSettings(max_missed_overgrowth=1))
    assert refused(without) == ["recall of class 3"]
    assert without.reasons[0].startswith("Recall of class 3 cannot be judged: no test image is of class 3 (subculture)")
    assert judge(naming(truth[:10], truth=truth[:10]), None, GateSettings(**ANYTHING_GOES)).passed


def test_reasons_are_sentences_with_figures(naming):
    champion = naming(TRUTH, model="2" * 64)
    verdict = judge(naming([1] * 100), champion, GateSettings())
    reasons = {rule.name: rule.reason for rule in verdict.rules if not rule.passed}
    assert tuple(reasons.values()) == verdict.reasons
    assert reasons["accuracy"] == "Accuracy is 40.0 %, below the floor of 50.0 %."
    assert "100.0 % were called seeding or media change" in reasons["missed overgrowth"]
    assert "no better than the 40.0 % of always answering class 1 (seeding)" in reasons[RULES[9]]
    found = re.match(
        r"Accuracy may lie ([\d.]+) points below the champion's, where 5\.0 points are allowed "
        r"\(difference -60\.0 points, of which this is the lower bound with 90 % confidence over 12 groups\)",
        reasons["not worse than the champion"],
    )
    assert found and float(found[1]) > 60
    assert reasons["not worse in missed overgrowth"].startswith(
        "The share of missed overgrowth may lie 100.0 points above the champion's, where 5.0 points are allowed"
    )
    assert all(reason.endswith(".") for reason in verdict.reasons)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=30))
def test_no_model_is_worse_than_itself(make_scored, pairs):
    truth, named = map(list, zip(*pairs, strict=True))
    scored = make_scored(truth=truth, logits=np.eye(4)[np.array(named) - 1])
    rule = rules_of(judge(scored, scored, GateSettings(**ANYTHING_GOES)))["not worse than the champion"]
    assert rule.passed and rule.figure == 0


@pytest.mark.parametrize(("margin", "passed"), [(0.0, False), (0.02, False), (0.05, True)])
def test_the_margin_is_held_against_what_may_have_been_lost(naming, margin, passed):
    champion = naming(TRUTH)
    challenger = naming([2, 2, *TRUTH[2:]])
    verdict = judge(challenger, champion, GateSettings(**ANYTHING_GOES | {"margin": margin}))
    assert verdict.passed is passed
    rule = rules_of(verdict)["not worse than the champion"]
    # Two of a hundred images are lost: the figure is what these vessels cannot rule out, beyond that.
    assert -0.05 < rule.figure < -0.02 and rule.bound == -margin
    assert "difference -2.0 points" in rule.note


@pytest.mark.parametrize(("allowed", "passed"), [(0.0, False), (0.02, True)])
def test_a_small_loss_that_is_proven_to_be_small_is_refused_all_the_same(naming, allowed, passed):
    champion, challenger = naming(TRUTH), naming([2, 2, *TRUTH[2:]])
    verdict = judge(challenger, champion, GateSettings(max_loss=allowed))
    assert refused(verdict) == ([] if passed else ["not behind on the test images"])
    if not passed:
        assert verdict.reasons == (
            "Accuracy on the test images is 2.0 points below the champion's, where 0.0 points are allowed.",
        )


def test_more_confidence_asks_for_more(naming):
    champion, challenger = naming(TRUTH), naming([2, 2, *TRUTH[2:]])
    figures = [
        rules_of(judge(challenger, champion, GateSettings(confidence=confidence)))["not worse than the champion"].figure
        for confidence in (0.6, 0.8, 0.9, 0.99)
    ]
    assert figures == sorted(figures, reverse=True) and len(set(figures)) == 4


def test_a_champion_that_learnt_from_the_test_images_is_told_of(naming):
    rule = rules_of(judge(naming(TRUTH), naming(TRUTH, learnt=7), GateSettings()))["not worse than the champion"]
    assert rule.note.endswith("; the champion learnt from 7 of the images, which flatters it")
    rule = rules_of(judge(naming(TRUTH), naming(TRUTH, learnt=None), GateSettings()))["not worse than the champion"]
    assert rule.note.endswith("; what the champion learnt from is not in this object store")


def test_the_champion_may_come_in_another_order(naming):
    champion = naming([2] * 20 + TRUTH[20:])
    back = naming(
        champion.predicted[::-1],
        truth=TRUTH[::-1],
        paths=champion.paths[::-1],
        sha256s=champion.sha256s[::-1],
        groups=champion.groups[::-1],
    )
    challenger = naming(TRUTH[:90] + [3] * 10)
    assert judge(challenger, back, GateSettings()) == judge(challenger, champion, GateSettings())


def test_other_images_cannot_be_compared(naming):
    mine = naming(TRUTH)
    fewer = naming(TRUTH[:99], truth=TRUTH[:99])
    others = naming(TRUTH, paths=(*mine.paths[:99], "other.png"))
    altered = naming(TRUTH, sha256s=(*mine.sha256s[:99], "f" * 64))
    relabelled = naming(TRUTH, truth=[*TRUTH[:99], 3])
    twice = naming(TRUTH, paths=(*mine.paths[:99], mine.paths[0]))
    again = naming([*TRUTH, 1], truth=[*TRUTH, 1], paths=(*mine.paths, mine.paths[0]))
    for champion, message in [
        (again, "100 and 101 images"),
        (fewer, "100 and 99 images"),
        (others, "not the same, such as '0099.png'"),
        (altered, "image '0099.png' has another content"),
        (relabelled, "image '0099.png' has another content or label"),
        (twice, "not the same"),
    ]:
        with pytest.raises(DataError, match=message):
            judge(mine, champion, GateSettings())


def test_nothing_to_judge_by(naming):
    with pytest.raises(DataError, match="no images"):
        judge(naming(np.empty(0, int), truth=np.empty(0, int)), None, GateSettings())
