import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import DataError
from components.evaluation.gates import judge, paired_interval
from components.settings import GateSettings

ANYTHING_GOES = {
    "min_accuracy": 0.0,
    "min_within_one_class": 0.0,
    "max_missed_overgrowth": 1.0,
    "beat_majority": False,
    "bootstrap": 200,
}
TRUTH = [1] * 40 + [2] * 30 + [3] * 20 + [4] * 10
RULES = (
    "accuracy",
    "within one class",
    "missed overgrowth",
    "better than the commonest class",
    "not worse than the champion",
)


@pytest.fixture
def naming(make_scored):
    """Answers that name the given classes."""

    def build(named, truth=TRUTH, **changes):
        return make_scored(truth=truth, logits=np.eye(4)[np.asarray(named) - 1] * 3, **changes)

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
    assert rules["not worse than the champion"].note == "there is no champion yet"


def test_each_floor_refuses_by_itself(naming):
    # 49 of 100 right, everything else at most one class off, overgrowth found.
    low = [2] * 31 + [1] * 9 + [2] * 30 + [2] * 20 + [4] * 10
    assert refused(judge(naming(low), None, GateSettings())) == ["accuracy"]
    # 84 within one class.
    far = [1] * 24 + [3] * 16 + [2] * 30 + [3] * 20 + [4] * 10
    assert refused(judge(naming(far), None, GateSettings())) == ["within one class"]
    # 4 of 10 overgrown images called media change.
    missed = TRUTH[:90] + [4] * 6 + [2] * 4
    assert refused(judge(naming(missed), None, GateSettings())) == ["missed overgrowth"]
    # Always the commonest class, judged by that rule alone.
    verdict = judge(naming([1] * 100), None, GateSettings(**ANYTHING_GOES | {"beat_majority": True}))
    assert refused(verdict) == ["better than the commonest class"]


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
    assert refused(verdict) == ["missed overgrowth"]
    assert rules_of(verdict)["missed overgrowth"].figure is None
    assert "no test image is of class 4" in verdict.reasons[0]
    assert "gate.max_missed_overgrowth to 1" in verdict.reasons[0]
    assert judge(naming(truth, truth=truth), None, GateSettings(max_missed_overgrowth=1)).passed


def test_reasons_are_sentences_with_figures(naming):
    champion = naming(TRUTH, model="2" * 64)
    verdict = judge(naming([1] * 100), champion, GateSettings())
    assert not verdict.passed and len(verdict.reasons) == 5
    assert verdict.reasons[0] == "Accuracy is 40.0 %, below the floor of 50.0 %."
    assert "100.0 % were called seeding or media change" in verdict.reasons[2]
    assert "no better than the 40.0 % of always answering class 1 (seeding)" in verdict.reasons[3]
    assert verdict.reasons[4].startswith("Accuracy is 60.0 points below the champion's, where 0.0 are allowed (")
    assert all(reason.endswith(".") for reason in verdict.reasons)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=30))
def test_no_model_is_worse_than_itself(make_scored, pairs):
    truth, named = map(list, zip(*pairs, strict=True))
    scored = make_scored(truth=truth, logits=np.eye(4)[np.array(named) - 1])
    rule = rules_of(judge(scored, scored, GateSettings(**ANYTHING_GOES)))["not worse than the champion"]
    assert rule.passed and rule.figure == 0


@pytest.mark.parametrize(("margin", "passed"), [(0.0, False), (0.01, False), (0.02, True), (0.05, True)])
def test_the_margin_is_what_may_be_lost(naming, margin, passed):
    champion = naming(TRUTH)
    challenger = naming([2, 2, *TRUTH[2:]])
    verdict = judge(challenger, champion, GateSettings(**ANYTHING_GOES | {"margin": margin}))
    assert verdict.passed is passed
    rule = rules_of(verdict)["not worse than the champion"]
    assert rule.figure == pytest.approx(-0.02) and rule.bound == -margin


def test_better_in_some_and_worse_in_others_is_weighed(naming):
    champion = naming([2] * 5 + TRUTH[5:])
    challenger = naming(TRUTH[:-4] + [3] * 4)
    rule = rules_of(judge(challenger, champion, GateSettings()))["not worse than the champion"]
    assert rule.passed and rule.figure == pytest.approx(0.01)
    assert "over 12 groups" in rule.note and "95 % interval" in rule.note


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


def test_paired_interval_is_narrower_than_the_models_own_intervals_allow():
    rng = np.random.default_rng(0)
    champion = rng.random(300) < 0.7
    challenger = champion.copy()
    challenger[:3] = ~challenger[:3]
    difference = challenger.astype(float) - champion
    low, high = paired_interval(difference, tuple(map(str, range(300))), 2000, 0)
    assert low <= difference.mean() <= high
    assert high - low < 0.03  # each accuracy alone is known to about ±0.05


def test_paired_interval_draws_whole_groups():
    difference = np.array([1.0] * 10 + [0.0] * 90)
    together = tuple("a" if row < 10 else f"v{row % 9}" for row in range(100))
    low, high = paired_interval(difference, together, 2000, 0)
    alone_low, alone_high = paired_interval(difference, tuple(map(str, range(100))), 2000, 0)
    assert (low, high) == (0.0, pytest.approx(0.3, abs=0.1))
    assert high - low > alone_high - alone_low


def test_paired_interval_weighs_images_not_groups():
    # Every image alike: however unequal the groups drawn, the mean is 1.
    assert paired_interval(np.ones(10), ("a",) * 7 + ("b", "c", "d"), 200, 0) == (None, None)
