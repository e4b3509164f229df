"""The detector's figures against hand-computed cases, and properties that must hold for any boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.boxes import Boxes, average_precision, match
from components.evaluation.detection import (
    FROC_RATES,
    THRESHOLD_SLACK,
    Matched,
    choose_threshold,
    froc,
    measure_detections,
    precision_recall,
)

A, B, C, NOWHERE = (0.0, 0.0, 0.2, 0.2), (0.4, 0.0, 0.6, 0.2), (0.0, 0.5, 0.3, 0.9), (0.8, 0.8, 1.0, 1.0)


def boxes(*images, scores=None):
    corners = [np.array(each, float).reshape(-1, 4) for each in images]
    return Boxes.of(corners, None if scores is None else [np.array(each, float) for each in scores])


@pytest.fixture
def truth():
    """Two cells, one, none and none."""
    return boxes([A, B], [C], [], [])


@pytest.fixture
def found():
    """A right, and again; B right but weak; C missed, another place found; nothing; a weak box on nothing."""
    return boxes(
        [A, A, B], [NOWHERE], [], [NOWHERE],
        scores=[[0.9, 0.7, 0.3], [0.6], [], [0.2]],
    )  # fmt: skip


def value(measured, name):
    return measured.figures[name].value


class TestMeasure:
    def test_by_hand(self, truth, found):
        measured = measure_detections(truth, found, list("abcd"), threshold=0.25, resamples=10)
        # Given: A, A again, B, the one beside C; right: A, B; of three cells.
        assert value(measured, "recall") == pytest.approx(2 / 3)
        assert value(measured, "false_discovery_rate") == pytest.approx(2 / 4)
        assert value(measured, "f1") == pytest.approx(2 * 2 / (4 + 3))
        assert value(measured, "false_per_image") == pytest.approx(2 / 4)
        assert value(measured, "clean_images") == 1.0  # the weak box lies below the threshold
        # Descending: right 0.9, wrong 0.7, wrong 0.6, right 0.3, wrong 0.2.
        assert value(measured, "average_precision") == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 4)
        # False boxes an image: none with 1 cell found; 2 of 4 with 2 found; 3 of 4 in all.
        assert value(measured, "froc") == pytest.approx(np.mean([1, 1, 2, 2, 2, 2, 2]) / 3)
        # The best boxes above 0.5: A right, the one beside C wrong; the fourth image's is too weak.
        assert value(measured, "hit_rate") == pytest.approx(1 / 2)
        assert value(measured, "hit_false_discovery_rate") == pytest.approx(1 / 2)

    def test_a_lower_threshold_finds_no_less(self, truth, found):
        low, high = (
            measure_detections(truth, found, list("abcd"), threshold=score, resamples=2) for score in (0.1, 0.65)
        )
        assert value(low, "clean_images") == 0.5
        assert value(high, "recall") == pytest.approx(1 / 3)
        assert value(low, "average_precision") == value(high, "average_precision")

    def test_nothing_found(self, truth):
        measured = measure_detections(truth, boxes([], [], [], []), list("abcd"), threshold=0.5, resamples=5)
        assert value(measured, "recall") == value(measured, "average_precision") == value(measured, "froc") == 0.0
        assert value(measured, "false_discovery_rate") is None
        assert value(measured, "hit_rate") == 0.0

    def test_no_cell_anywhere(self, found):
        measured = measure_detections(boxes([], [], [], []), found, list("abcd"), threshold=0.25, resamples=5)
        assert value(measured, "recall") is None
        assert value(measured, "average_precision") is None
        assert value(measured, "false_discovery_rate") == 1.0

    def test_all_right_is_not_certain(self):
        truth = boxes([A], [B], [C])
        measured = measure_detections(truth, truth, list("abc"), threshold=0.5, resamples=50)
        recall = measured.figures["recall"]
        assert recall.value == 1.0
        assert recall.low == pytest.approx(0.025 ** (1 / 3))

    def test_the_interval_is_over_groups_not_images(self):
        rng = np.random.default_rng(0)
        cells = boxes(*[[A] for _ in range(60)])
        # In half of the vessels every cell is found, in the others none.
        found = boxes(
            *[[A] if row % 6 < 3 else [] for row in range(60)], scores=[[0.9] * (row % 6 < 3) for row in range(60)]
        )
        few = measure_detections(cells, found, [str(row % 6) for row in range(60)], threshold=0.5).figures["recall"]
        many = measure_detections(cells, found, [str(each) for each in rng.permutation(60)], threshold=0.5).figures[
            "recall"
        ]
        assert few.value == many.value == 0.5
        assert few.high - few.low > 1.5 * (many.high - many.low)

    def test_other_images_cannot_be_measured(self, truth, found):
        with pytest.raises(ValueError, match="3 groups"):
            measure_detections(truth, found, list("abc"), threshold=0.5)

    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 10**9), st.floats(0.05, 0.95))
    def test_figures_hang_together(self, seed, threshold):
        truth, found = random_boxes(seed, scored=False), random_boxes(seed + 1)
        groups = [str(row % 3) for row in range(truth.images)]
        measured = measure_detections(truth, found, groups, threshold=threshold, resamples=20)
        right = match(truth, found) >= 0
        area = average_precision(found.scores, right, len(truth))
        assert value(measured, "average_precision") == (area if area is None else pytest.approx(area))
        given_boxes = found.scores >= threshold
        if len(truth):
            assert value(measured, "recall") == pytest.approx(right[given_boxes].sum() / len(truth))
        for name, figure in measured.figures.items():
            if figure.value is not None and name != "false_per_image":
                assert 0 <= figure.value <= 1, name
            if figure.low is not None:
                assert figure.low <= figure.high

    def test_more_images_than_fit_at_once_are_measured_alike(self, truth, found, monkeypatch):
        whole = measure_detections(truth, found, list("abcd"), threshold=0.25, resamples=40)
        monkeypatch.setattr("components.evaluation.detection._CHUNK", 10)
        assert measure_detections(truth, found, list("abcd"), threshold=0.25, resamples=40) == whole


class TestThreshold:
    def test_it_balances_recall_and_precision(self, truth, found):
        # F1 after each: 2/4, 2/5, 2/6, 4/7, 4/8: best with 0.3, by more than the slack; halfway to 0.2.
        assert choose_threshold(truth, found) == pytest.approx(0.25)

    def test_nothing_right_gives_nothing(self):
        assert choose_threshold(boxes([A]), boxes([NOWHERE], scores=[[0.9]])) == 1.0
        assert choose_threshold(boxes([A]), boxes([])) == 1.0

    def test_the_last_score_is_a_threshold_too(self):
        assert choose_threshold(boxes([A]), boxes([A], scores=[[0.4]])) == 0.4

    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, 10**9))
    def test_f1_is_almost_the_best_and_at_no_lower_score(self, seed):
        truth, found = random_boxes(seed, scored=False), random_boxes(seed + 1)
        groups = ["one"] * truth.images

        def f1(threshold):
            return value(measure_detections(truth, found, groups, threshold=threshold, resamples=1), "f1") or 0.0

        chosen = choose_threshold(truth, found)
        if not (match(truth, found) >= 0).any():
            return
        enough = max(f1(score) for score in found.scores) - THRESHOLD_SLACK - 1e-9
        assert f1(chosen) >= enough
        assert all(f1(score) < enough + 2e-9 for score in found.scores[found.scores < chosen])


class TestCurves:
    def test_by_hand(self, truth, found):
        matched = Matched.of(truth, found, 0.5)
        recall, precision = precision_recall(matched)
        np.testing.assert_allclose(recall, np.array([1, 1, 1, 2, 2]) / 3)
        np.testing.assert_allclose(precision, [1, 1 / 2, 1 / 3, 2 / 4, 2 / 5])
        false, recall = froc(matched)
        np.testing.assert_allclose(false, np.array([0, 1, 2, 2, 3]) / 4)
        np.testing.assert_allclose(recall, np.array([1, 1, 1, 2, 2]) / 3)

    def test_rates_are_those_of_the_source(self):
        assert FROC_RATES == (0.125, 0.25, 0.5, 1, 2, 4, 8)


def random_boxes(seed, images=6, scored=True):
    rng = np.random.default_rng(seed)
    corners, scores = [], []
    for count in rng.integers(0, 5, images):
        low = rng.integers(0, 4, (count, 2)) / 10
        corners.append(np.hstack([low, low + rng.integers(3, 7, (count, 2)) / 10]))
        scores.append(rng.integers(1, 10, count) / 10)
    return Boxes.of(corners, scores if scored else None)
