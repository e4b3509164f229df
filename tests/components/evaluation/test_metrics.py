import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from components.evaluation.metrics import confusion, measure, predicted_classes

ONE_HOT = np.eye(4)

answers = st.lists(
    st.tuples(st.integers(1, 4), st.lists(st.integers(0, 5), min_size=4, max_size=4), st.integers(0, 5)),
    min_size=1,
    max_size=40,
)


def unpack(rows):
    truth = np.array([row[0] for row in rows])
    # Few distinct scores, so that ties are common.
    scores = np.array([row[1] for row in rows], float) + 1
    return truth, scores / scores.sum(axis=1, keepdims=True), [f"v{row[2]}" for row in rows]


def values(truth, probabilities, groups=None, majority_class=1, **options):
    groups = groups or [str(row) for row in range(len(truth))]
    measured = measure(
        np.array(truth), np.asarray(probabilities, float), groups, majority_class=majority_class, **options
    )
    return {name: figure.value for name, figure in measured.figures.items()}


def test_figures_by_hand():
    truth, named = [1, 1, 2, 3, 4, 4, 4, 4], [1, 2, 2, 1, 4, 3, 2, 1]
    got = values(truth, ONE_HOT[np.array(named) - 1])
    assert got["accuracy"] == 3 / 8
    assert got["within_one_class"] == 5 / 8
    assert got["mean_class_error"] == (1 + 2 + 1 + 2 + 3) / 8
    assert got["missed_overgrowth"] == 2 / 4
    assert got["balanced_accuracy"] == (1 / 2 + 1 + 0 + 1 / 4) / 4
    assert [got[f"recall_{k}"] for k in (1, 2, 3, 4)] == [1 / 2, 1, 0, 1 / 4]
    assert got["majority_accuracy"] == 2 / 8


@settings(deadline=None)
@given(answers)
def test_figures_agree_with_scikit_learn(rows):
    truth, probabilities, groups = unpack(rows)
    named, hit = predicted_classes(probabilities), ONE_HOT[truth - 1]
    got = values(truth, probabilities, groups, resamples=1)
    assert got["accuracy"] == pytest.approx(reference.accuracy_score(truth, named))
    assert got["roc_auc_micro"] == pytest.approx(reference.roc_auc_score(hit, probabilities, average="micro"))
    assert got["pr_auc_micro"] == pytest.approx(reference.average_precision_score(hit, probabilities, average="micro"))
    recalls = reference.recall_score(truth, named, labels=np.unique(truth), average=None)
    assert got["balanced_accuracy"] == pytest.approx(recalls.mean())
    if len(set(truth) | set(named)) > 1:
        kappa = reference.cohen_kappa_score(truth, named, labels=[1, 2, 3, 4], weights="quadratic")
        assert got["quadratic_kappa"] == pytest.approx(kappa)
    else:
        assert got["quadratic_kappa"] is None


@settings(deadline=None, max_examples=30)
@given(answers)
def test_intervals_lie_within_range_and_around_sensible_values(rows):
    truth, probabilities, groups = unpack(rows)
    measured = measure(truth, probabilities, groups, majority_class=1, resamples=100)
    for name, figure in measured.figures.items():
        if figure.low is not None:
            assert figure.low <= figure.high, name
            if name not in ("quadratic_kappa", "mean_class_error"):
                assert figure.low >= 0 and figure.high <= 1 + 1e-9, name


def test_one_image_is_measured_honestly():
    measured = measure(np.array([4]), ONE_HOT[[3]], ["v"], majority_class=1)
    figures = measured.figures
    assert figures["accuracy"].value == 1 and figures["accuracy"].low == pytest.approx(0.025)
    assert figures["recall_1"].value is None
    assert figures["quadratic_kappa"].value is None
    assert figures["missed_overgrowth"].value == 0 and figures["missed_overgrowth"].high == pytest.approx(0.975)
    assert figures["roc_auc_micro"].value == 1 and figures["roc_auc_micro"].low is None


def test_missed_overgrowth_is_unknown_without_overgrown_images():
    assert values([1, 2, 3], ONE_HOT[:3])["missed_overgrowth"] is None


def test_interval_widens_when_images_come_from_few_vessels():
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 5, 400)
    vessel = np.arange(400) % 10
    # Vessels 0-4 are always answered rightly, 5-9 never.
    named = np.where(vessel < 5, truth, truth % 4 + 1)
    grouped, alone = (
        measure(truth, ONE_HOT[named - 1], list(map(str, groups)), majority_class=1).figures["accuracy"]
        for groups in (vessel, range(400))
    )
    assert grouped.value == alone.value
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)


def test_interval_of_independent_images_is_the_binomial_one():
    truth = np.ones(500, int)
    named = np.where(np.arange(500) < 400, 1, 2)
    figure = measure(truth, ONE_HOT[named - 1], list(map(str, range(500))), majority_class=1).figures["accuracy"]
    half = 1.96 * (0.8 * 0.2 / 500) ** 0.5
    assert (figure.low, figure.high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.006)


def test_areas_in_bins_stay_close_to_the_exact_ones():
    rng = np.random.default_rng(1)
    truth = rng.integers(1, 5, 5000)
    scores = np.exp(rng.normal(size=(5000, 4)) + ONE_HOT[truth - 1])
    groups = list(map(str, range(5000)))
    measured = measure(truth, scores / scores.sum(axis=1, keepdims=True), groups, majority_class=1, resamples=200)
    for name in ("roc_auc_micro", "pr_auc_micro"):
        figure = measured.figures[name]
        assert (figure.low + figure.high) / 2 == pytest.approx(figure.value, abs=0.003)


def test_same_seed_same_intervals(make_scored):
    scored = make_scored()
    assert scored.measured(seed=3) == scored.measured(seed=3) != scored.measured(seed=4)


def test_confusion_has_truth_in_rows():
    got = confusion(np.array([1, 1, 4]), np.array([1, 2, 3]))
    assert got.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]


@pytest.mark.parametrize(
    ("truth", "probabilities", "groups"),
    [([], np.empty((0, 4)), []), ([1], np.ones((1, 3)), ["v"]), ([1], np.ones((1, 4)), ["v", "w"])],
)
def test_what_does_not_belong_together_is_refused(truth, probabilities, groups):
    with pytest.raises(ValueError, match="labels"):
        measure(np.array(truth, int), probabilities, groups, majority_class=1)
