import pytest
from scipy import stats

from components.evaluation.spread import Spread, difference, spread


def test_five_folds_by_hand():
    # Deviations from 0.8: -0.1, 0, 0.1, 0, 0; sum of squares 0.02; SD = sqrt(0.02 / 4); t(4, 97.5 %) = 2.776445.
    found = spread([0.7, 0.8, 0.9, 0.8, 0.8])
    assert found.mean == pytest.approx(0.8)
    assert found.sd == pytest.approx(0.0707107, abs=1e-7)
    assert found.low == pytest.approx(0.8 - 2.776445 * 0.0707107 / 5**0.5, abs=1e-6)
    assert found.high == pytest.approx(0.8 + 2.776445 * 0.0707107 / 5**0.5, abs=1e-6)
    assert found.n == 5


def test_folds_without_the_figure_do_not_count():
    assert spread([0.5, None, 0.7]) == spread([0.5, 0.7])
    assert spread([None]) == spread([]) == Spread(None, None, None, None, 0)
    assert spread([0.5, None]) == Spread(0.5, None, None, None, 1)


def test_a_paired_difference_compares_fold_by_fold():
    found = difference([0.9, 0.8, 0.7], [0.8, 0.7, 0.6], paired=True)
    assert (found.mean, found.sd) == (pytest.approx(0.1), pytest.approx(0, abs=1e-12))
    assert difference([0.9, None, 0.7], [0.8, 0.7, None], paired=True).n == 1


def test_an_unpaired_difference_is_welchs():
    first, second = [0.9, 0.95, 0.92, 0.88, 0.97], [0.7, 0.8, 0.75, 0.66, 0.71]
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval()
    found = difference(first, second, paired=False)
    assert found.mean == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert difference([0.9], second, paired=False).low is None
    assert difference([None], second, paired=False).mean is None
    assert difference([1.0, 1.0], [1.0, 1.0], paired=False).low is None
