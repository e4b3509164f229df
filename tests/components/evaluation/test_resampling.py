import numpy as np
import pytest
from scipy import stats

from components.evaluation.resampling import draws, exact_interval, group_index, paired_interval, percentile_interval


def test_every_resampling_draws_as_many_groups_as_there_are():
    drawn = np.vstack(list(draws(7, 50, seed=0)))
    assert drawn.shape == (50, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert len(np.unique(drawn, axis=0)) > 40


def test_chunks_do_not_change_the_draws(monkeypatch):
    whole = np.vstack(list(draws(5, 20, seed=1)))
    monkeypatch.setattr("components.evaluation.resampling._CHUNK", 15)
    monkeypatch.setattr("components.evaluation.resampling._KEPT", 0)
    chunks = list(draws(5, 20, seed=1))
    assert len(chunks) == 7
    np.testing.assert_array_equal(np.vstack(chunks), whole)


def test_groups_are_numbered_by_name():
    assert group_index(["b", "a", "b", "c"]).tolist() == [1, 0, 1, 2]


def test_percentile_interval_needs_variation_and_definition():
    assert percentile_interval(np.linspace(0, 100, 1001)) == (pytest.approx(2.5), pytest.approx(97.5))
    assert percentile_interval(np.ones(10)) == (None, None)
    assert percentile_interval(np.array([1.0, 2.0, np.nan, np.nan, np.nan])) == (None, None)
    assert percentile_interval(np.full(3, np.nan)) == (None, None)


@pytest.mark.parametrize("units", [1, 8, 50])
def test_exact_interval_is_clopper_and_pearsons(units):
    for proportion in (0.0, 1.0):
        expected = stats.binomtest(int(proportion * units), units).proportion_ci(0.95, "exact")
        assert exact_interval(proportion, units) == (pytest.approx(expected.low), pytest.approx(expected.high))


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
