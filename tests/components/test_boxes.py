"""Overlap, matching and average precision, against hand-computed cases and the slow, plain way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.boxes import Boxes, average_precision, counts_by_score, match, overlapping, overlaps


def boxes(*images: list[tuple[float, float, float, float]], scores: list[list[float]] | None = None) -> Boxes:
    corners = [np.array(each).reshape(-1, 4) for each in images]
    return Boxes.of(corners, None if scores is None else [np.array(each) for each in scores])


UNIT = (0.0, 0.0, 1.0, 1.0)
LEFT_HALF = (0.0, 0.0, 0.5, 1.0)


class TestBoxes:
    def test_images_without_a_box_keep_their_number(self):
        made = boxes([], [UNIT, LEFT_HALF], [])
        assert made.images == 3
        assert made.counts.tolist() == [0, 2, 0]
        assert made.on(1) == slice(0, 2)
        assert made.on(2) == slice(2, 2)

    def test_no_images_at_all(self):
        assert len(Boxes.of([])) == 0

    def test_weak_ones_are_left_out(self):
        made = boxes([UNIT, LEFT_HALF], scores=[[0.9, 0.1]])
        assert made.above(0.1).scores.tolist() == [0.9, 0.1]
        assert made.above(0.2).scores.tolist() == [0.9]

    def test_images_must_ascend(self):
        with pytest.raises(ValueError, match="ascend"):
            Boxes(np.zeros((2, 4)), np.ones(2), np.array([1, 0]), 2)

    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match="scores"):
            Boxes(np.zeros((2, 4)), np.ones(1), np.array([0, 0]), 1)


class TestOverlap:
    @pytest.mark.parametrize(
        ("first", "second", "expected"),
        [
            (UNIT, UNIT, 1.0),
            (UNIT, LEFT_HALF, 0.5),
            ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
            (UNIT, (1, 0, 2, 1), 0.0),
            ((0, 0, 0, 0), (0, 0, 0, 0), 0.0),
        ],
    )
    def test_by_hand(self, first, second, expected):
        assert overlaps(np.array([first], float), np.array([second], float))[0] == pytest.approx(expected)

    def test_squashing_the_image_changes_nothing(self):
        first, second = np.random.default_rng(0).random((2, 50, 4))
        first[:, 2:] += first[:, :2]
        second[:, 2:] += second[:, :2]
        squash = np.array([3.0, 0.2, 3.0, 0.2])
        np.testing.assert_allclose(overlaps(first, second), overlaps(first * squash, second * squash))

    def test_only_boxes_of_one_image_are_compared(self):
        pairs = overlapping(boxes([UNIT], [UNIT], []), boxes([], [UNIT, LEFT_HALF], [UNIT]))
        assert pairs.found.tolist() == [0, 1]
        assert pairs.truth.tolist() == [1, 1]

    def test_other_images_cannot_be_compared(self):
        with pytest.raises(ValueError, match="on 1 images, found ones on 2"):
            overlapping(boxes([UNIT]), boxes([UNIT], []))

    def test_many_boxes_are_compared_in_pieces(self, monkeypatch):
        truth, found = random_boxes(0), random_boxes(1)
        whole = overlapping(truth, found, 0.1)
        monkeypatch.setattr("components.boxes._CHUNK", 3)
        pieces = overlapping(truth, found, 0.1)
        assert len(whole.found) > 3
        np.testing.assert_array_equal(whole.found, pieces.found)
        np.testing.assert_array_equal(whole.truth, pieces.truth)


class TestMatch:
    def test_a_second_box_on_one_cell_is_not_right(self):
        found = boxes([UNIT, UNIT], scores=[[0.5, 0.9]])
        assert match(boxes([UNIT]), found).tolist() == [-1, 0]

    def test_who_is_turned_away_takes_the_next(self):
        # The weaker box overlaps the first cell most, which the stronger has; the second is free and close enough.
        cells = boxes([(0, 0, 10, 10), (0, 2, 10, 12)])
        found = boxes([(0, 0, 10, 10), (0, 0.5, 10, 10.5)], scores=[[0.9, 0.8]])
        assert match(cells, found).tolist() == [0, 1]

    def test_below_the_overlap_nothing_is_matched(self):
        assert match(boxes([UNIT]), boxes([LEFT_HALF]), 0.5).tolist() == [0]
        assert match(boxes([UNIT]), boxes([LEFT_HALF]), 0.51).tolist() == [-1]

    def test_nothing_found_and_nothing_there(self):
        assert match(boxes([UNIT]), boxes([])).tolist() == []
        assert match(boxes([]), boxes([UNIT])).tolist() == [-1]

    @settings(deadline=None, max_examples=150)
    @given(st.integers(0, 10**9), st.sampled_from([0.1, 0.3, 0.5]))
    def test_it_is_what_taking_turns_gives(self, seed, iou):
        truth, found = random_boxes(seed), random_boxes(seed + 1)
        np.testing.assert_array_equal(match(truth, found, iou), taking_turns(truth, found, iou))


class TestAveragePrecision:
    def test_by_hand(self):
        # Right, wrong, right of three cells: precision 1, 1/2, 2/3; made to fall: 1, 2/3, 2/3.
        scores, right = np.array([0.9, 0.8, 0.7]), np.array([True, False, True])
        assert average_precision(scores, right, 3) == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3)

    def test_perfect_and_none(self):
        assert average_precision(np.array([0.2, 0.1]), np.array([True, True]), 2) == 1.0
        assert average_precision(np.array([0.2]), np.array([False]), 2) == 0.0
        assert average_precision(np.zeros(0), np.zeros(0, bool), 2) == 0.0
        assert average_precision(np.zeros(0), np.zeros(0, bool), 0) is None

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30), st.randoms())
    def test_the_order_of_equal_scores_does_not_matter(self, rows, random):
        shuffled = random.sample(rows, len(rows))
        precisions = [
            average_precision(np.array([s for s, _ in each], float), np.array([r for _, r in each], bool), 40)
            for each in (rows, shuffled)
        ]
        assert precisions[0] == pytest.approx(precisions[1])
        assert 0 <= precisions[0] <= 1

    def test_counts_by_score_hold_equal_scores_together(self):
        scores, right = np.array([0.5, 0.9, 0.5, 0.1]), np.array([True, True, False, False])
        at, hits, misses = counts_by_score(scores, right)
        assert at.tolist() == [0.9, 0.5, 0.1]
        assert hits.tolist() == [1, 2, 2]
        assert misses.tolist() == [0, 1, 2]


def random_boxes(seed: int, images: int = 3) -> Boxes:
    """Boxes that overlap much, some with equal scores."""
    rng = np.random.default_rng(seed)
    corners, scores = [], []
    for count in rng.integers(0, 7, images):
        low = rng.integers(0, 4, (count, 2)) / 10
        corners.append(np.hstack([low, low + rng.integers(3, 8, (count, 2)) / 10]))
        scores.append(rng.integers(1, 6, count) / 5)
    return Boxes.of(corners, scores)


def taking_turns(truth: Boxes, found: Boxes, iou: float) -> list[int]:
    """Match as the definition says, one box after another."""
    result, taken = [-1] * len(found), set()
    for row in np.argsort(-found.scores, kind="stable"):
        best, most = -1, iou
        for cell in range(len(truth)):
            if cell in taken or truth.image[cell] != found.image[row]:
                continue
            overlap = overlaps(found.corners[row], truth.corners[cell])
            if overlap > most or (overlap == most and best == -1):
                best, most = cell, overlap
        if best >= 0:
            taken.add(best)
            result[row] = best
    return result
