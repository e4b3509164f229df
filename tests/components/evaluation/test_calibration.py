import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import optimize, special

from components.evaluation import calibration
from components.evaluation.calibration import (
    calibrate,
    calibration_error,
    choose_threshold,
    fit_temperature,
    losses,
    negative_log_likelihood,
    reliability,
)
from components.imaging import probabilities


def drawn_from(logits, seed=0):
    """Labels drawn from the softmax of logits: perfectly calibrated by construction."""
    rng = np.random.default_rng(seed)
    shares = special.softmax(logits, axis=1).cumsum(axis=1)
    return (rng.random((len(logits), 1)) > shares).sum(axis=1).clip(0, 3) + 1


@pytest.mark.parametrize("true_temperature", [0.4, 1.0, 3.0])
def test_temperature_is_recovered(true_temperature):
    logits = np.random.default_rng(1).normal(size=(20_000, 4)) * 2
    assert fit_temperature(logits * true_temperature, drawn_from(logits)) == pytest.approx(true_temperature, rel=0.05)


def test_temperature_is_where_the_likelihood_is_greatest(make_scored):
    scored = make_scored(n=3000)
    got = fit_temperature(scored.logits, scored.truth)

    def nll(t):
        return -special.log_softmax(scored.logits / t, axis=1)[np.arange(3000), scored.truth - 1].mean()

    reference = optimize.minimize(lambda t: nll(t[0]), [1.0], bounds=[(0.1, 10)]).x[0]
    assert got == pytest.approx(reference, rel=0.01)


def test_few_images_all_right_do_not_make_the_model_certain():
    logits = np.eye(4) * 2
    truth = np.array([1, 2, 3, 4])
    temperature = fit_temperature(logits, truth)
    assert 0.3 < temperature < 1
    assert probabilities(logits, temperature).max() < 0.999


def test_few_images_all_wrong_do_not_make_it_shrug_without_end():
    assert 1 < fit_temperature(np.eye(4) * 2, np.array([2, 3, 4, 1])) < 10


@given(
    arrays.arrays(float, (6, 4), elements=st.floats(-50, 50, width=16)),
    arrays.arrays(int, 6, elements=st.integers(1, 4)),
)
def test_calibration_never_changes_the_answer(logits, truth):
    temperature = fit_temperature(logits, truth)
    assert 0.1 <= temperature <= 10
    before, after = probabilities(logits), probabilities(logits, temperature)
    # The winner stays a winner, up to ties that rounding makes.
    assert (after[np.arange(6), before.argmax(axis=1)] >= after.max(axis=1) - 1e-12).all()


def test_losses_stay_finite_however_sure_the_model_is():
    logits = np.array([[1e4, 0, 0, 0], [1e4, 0, 0, 0]])
    assert losses(logits, np.array([1, 2])).tolist() == [0, 1e4]
    assert negative_log_likelihood(logits, np.array([1, 2])) == 5e3


def test_reliability_bins_by_hand():
    calibrated = np.array([[0.7, 0.1, 0.1, 0.1], [0.64, 0.36, 0, 0], [1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    bins = reliability(calibrated, np.array([1, 2, 1, 1]))
    assert [each.n for each in bins] == [0, 0, 1, 0, 0, 0, 2, 0, 0, 1]
    assert bins[6].confidence == pytest.approx(0.67) and bins[6].accuracy == 0.5
    assert bins[0].accuracy is None
    assert calibration_error(calibrated, np.array([1, 2, 1, 1])) == pytest.approx((2 * 0.17 + 0 + 0.75) / 4)


def confident(levels):
    rest = (1 - np.asarray(levels)[:, np.newaxis]) / 3
    return np.hstack([np.asarray(levels)[:, np.newaxis], np.repeat(rest, 3, axis=1)])


def test_threshold_is_the_lowest_one_that_reaches_the_target():
    levels = np.linspace(0.95, 0.56, 40)
    truth = np.ones(40, int)
    truth[-4:] = 2  # the four least sure answers are wrong
    # 36 right, then wrong ones: two more keep 36 of 37 (97 %), but 36 of 38 (94.7 %) do not.
    assert choose_threshold(confident(levels), truth) == pytest.approx(levels[36])


def test_threshold_starts_at_one_half():
    assert choose_threshold(confident([0.9, 0.8, 0.55, 0.5, 0.4, 0.95, 0.99, 0.97, 0.7, 0.6]), np.ones(10, int)) == 0.5


def test_threshold_never_silences_more_than_a_fifth():
    calibrated = confident(np.linspace(0.3, 0.9, 50))
    threshold = choose_threshold(calibrated, np.full(50, 3))
    assert (calibrated.max(axis=1) < threshold).sum() == 10


def test_equal_confidences_cannot_be_told_apart():
    # Taken one by one, right answers first, the 94th would still leave 95 % right.
    truth = np.array([1] * 90 + [2] * 10)
    assert choose_threshold(confident([0.9] * 80 + [0.8] * 20), truth) == 0.9


def test_summary_tells_before_and_after(make_scored):
    scored = make_scored(n=500, skill=3)
    got = calibrate(scored.logits, scored.truth)
    assert got.nll_after <= got.nll_before
    assert got.n == 500
    assert got.ece_before == calibration_error(probabilities(scored.logits), scored.truth)
    assert got.rule == calibration.ABSTENTION_RULE


def test_nothing_to_calibrate_on():
    with pytest.raises(ValueError, match="no validation images"):
        calibrate(np.empty((0, 4)), np.empty(0, int))
