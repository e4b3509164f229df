import numpy as np
import pytest
from scipy import stats

from components.evaluation.paired import Ratio, differences
from components.settings import GateSettings

SETTINGS = GateSettings(bootstrap=400)


def share(marks):
    return Ratio(np.asarray(marks, float), np.ones(len(marks)))


def test_the_difference_is_that_of_the_two_ratios():
    mine = Ratio(np.array([1.0, 0.0, 3.0]), np.array([2.0, 0.0, 4.0]))
    theirs = Ratio(np.array([1.0, 1.0, 0.0]), np.array([2.0, 2.0, 1.0]))
    (found,) = differences([(mine, theirs)], ("a", "b", "c"), SETTINGS)
    assert found.value == pytest.approx(4 / 6 - 2 / 5)
    assert found.low < found.value < found.high
    assert (found.n, found.groups) == (3, 3)


def test_without_any_difference_nothing_is_in_doubt():
    marks = share([1, 0, 1])
    assert differences([(marks, share([1, 0, 1]))], ("a", "a", "a"), SETTINGS) == [(0.0, 0.0, 0.0, 3, 1)]


def test_one_group_says_nothing_of_others():
    (found,) = differences([(share([1, 1, 1]), share([0, 0, 1]))], ("a", "a", "a"), SETTINGS)
    assert found.value == pytest.approx(2 / 3) and found.low is None and found.high is None


def test_what_no_image_has_a_say_in_is_unknown():
    nothing = Ratio(np.zeros(4), np.zeros(4))
    assert differences([(nothing, share([1, 0, 0, 1]))], tuple("aabb"), SETTINGS)[0].value is None


def test_only_images_with_a_say_are_counted():
    below = np.array([1.0, 1.0, 0.0, 0.0])
    mine, theirs = Ratio(np.array([1.0, 1.0, 0.0, 0.0]), below), Ratio(np.zeros(4), below)
    (found,) = differences([(mine, theirs)], tuple("abcc"), SETTINGS)
    assert (found.value, found.n, found.groups) == (1.0, 2, 2)


def test_figures_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    groups = tuple(f"v{row % 6}" for row in range(60))
    pairs = [(share(rng.random(60) < 0.8), share(rng.random(60) < 0.8)) for _ in range(3)]
    together = differences(pairs, groups, SETTINGS)
    assert together == [differences([pair], groups, SETTINGS)[0] for pair in pairs]


def test_images_of_one_group_count_as_one():
    rng = np.random.default_rng(1)
    by_group = (rng.random(10) < 0.5).astype(float) - (rng.random(10) < 0.5)
    mine, theirs = share(np.repeat(by_group, 8)), share(np.zeros(80))
    whole = differences([(mine, theirs)], tuple(f"v{row // 8}" for row in range(80)), SETTINGS)[0]
    alone = differences([(share(by_group), share(np.zeros(10)))], tuple(map(str, range(10))), SETTINGS)[0]
    assert (whole.low, whole.high) == pytest.approx((alone.low, alone.high))


@pytest.mark.parametrize("groups", [3, 6, 24])
def test_a_bound_holds_as_often_as_it_says(groups):
    """Of many test parts whose true difference is 0, the lower bound lies above it in one of ten."""
    rng = np.random.default_rng(groups)
    names = tuple(f"v{row % groups}" for row in range(4 * groups))
    # Vessels differ, and so do their images, by figures that any value can be taken from.
    parts = [
        (rng.normal(size=groups)[np.arange(4 * groups) % groups] + rng.normal(size=4 * groups)) for _ in range(800)
    ]
    pairs = [(share(part), share(np.zeros(4 * groups))) for part in parts]
    found = differences(pairs, names, GateSettings(bootstrap=400, confidence=0.9))
    wrong = sum(each.low > 0 for each in found)
    assert stats.binomtest(wrong, 800, 0.1).pvalue > 0.001
