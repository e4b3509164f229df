import numpy as np
import pytest
from sklearn import metrics as reference

from components.evaluation.curves import MICRO, MOST_POINTS, precision_recall_curves, roc_curves


def test_curves_agree_with_scikit_learn(make_scored):
    scored = make_scored(n=40, skill=0.7)
    hit = np.eye(4)[scored.truth - 1]
    roc = {curve.name: curve for curve in roc_curves(scored.truth, scored.probabilities)}
    for name, labels, scores in [(MICRO, hit.ravel(), scored.probabilities.ravel())] + [
        (str(k + 1), hit[:, k], scored.probabilities[:, k]) for k in range(4)
    ]:
        x, y, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
        np.testing.assert_allclose(roc[name].x, x, atol=1e-5)
        np.testing.assert_allclose(roc[name].y, y, atol=1e-5)
        assert roc[name].area == pytest.approx(reference.roc_auc_score(labels, scores))
    precision = {curve.name: curve.area for curve in precision_recall_curves(scored.truth, scored.probabilities)}
    assert precision[MICRO] == pytest.approx(
        reference.average_precision_score(hit, scored.probabilities, average="micro")
    )
    assert precision["2"] == pytest.approx(reference.average_precision_score(hit[:, 1], scored.probabilities[:, 1]))


def test_a_curve_goes_from_corner_to_corner(make_scored):
    scored = make_scored(n=30)
    for curve in roc_curves(scored.truth, scored.probabilities):
        assert (curve.x[0], curve.y[0]) == (0, 0)
        assert (curve.x[-1], curve.y[-1]) == (1, 1)
        assert np.all(np.diff(curve.x) >= 0) and np.all(np.diff(curve.y) >= 0)


def test_absent_classes_have_no_curve():
    truth = np.array([1, 1, 2])
    names = [curve.name for curve in roc_curves(truth, np.full((3, 4), 0.25))]
    assert names == [MICRO, "1", "2"]
    assert [curve.name for curve in roc_curves(np.array([3]), np.full((1, 4), 0.25))] == [MICRO]


def test_long_curves_are_thinned_but_keep_their_area_and_shape(make_scored):
    scored = make_scored(n=4000, skill=0.5)
    curve = roc_curves(scored.truth, scored.probabilities)[0]
    assert len(curve.x) <= MOST_POINTS
    assert (curve.x[-1], curve.y[-1]) == (1, 1)
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(curve.area, abs=1e-3)
