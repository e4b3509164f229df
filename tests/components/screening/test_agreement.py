import numpy as np
import pytest

from components.screening.agreement import Tally, judge_labels, tally


def drawn(rng, groups, images, error, spread=0.0):
    rates = np.full(groups, error)
    if spread:
        rates = rng.beta(error * (1 / spread - 1), (1 - error) * (1 / spread - 1), groups)
    return Tally(tuple(map(str, range(groups))), rng.binomial(images, rates), np.full(groups, images))


def test_answers_are_counted_by_vessel():
    found = tally(["b", "a", "b", "c"], [1, 0, 1, 0], [1, 1, 2, 0])
    assert found.groups == ("a", "b"), "nobody was asked in c"
    assert (found.wrong.tolist(), found.asked.tolist(), found.share) == ([0, 2], [1, 3], 0.5)
    assert tally([], [], []).share is None


@pytest.mark.parametrize(("error", "spread"), [(0.02, 0.0), (0.1, 0.2), (0.3, 0.1)])
def test_few_batches_of_the_known_error_exceed_the_bound(error, spread):
    rng = np.random.default_rng(0)
    stopped = 0
    for number in range(60):
        known, batch = drawn(rng, 12, 8, error, spread), drawn(rng, 8, 10, error, spread)
        stopped += not judge_labels(known, batch, false_stop=0.05, margin=0.0, seed=number).trusted
    # At 5 % more than 10 of 60 come by chance once in two thousand times.
    assert stopped <= 10


def test_labels_of_chance_are_not_trusted():
    rng = np.random.default_rng(1)
    for number in range(20):
        known, batch = drawn(rng, 12, 8, 0.1, 0.1), drawn(rng, 8, 10, 0.75)
        assert not judge_labels(known, batch, false_stop=0.01, margin=0.05, seed=number).trusted


def test_what_is_known_of_few_vessels_bounds_less():
    rng = np.random.default_rng(2)
    batch = drawn(rng, 10, 10, 0.1)
    few, many = (judge_labels(drawn(rng, n, 8, 0.1), batch, false_stop=0.01, margin=0.0).bound for n in (4, 200))
    assert many < few < 1


def test_one_vessel_says_less_than_its_images_seem_to():
    known = drawn(np.random.default_rng(3), 30, 8, 0.1, 0.3)
    asked = 40
    one = Tally(("a",), np.array([asked // 2]), np.array([asked]))
    each = tally([str(image) for image in range(asked)], [image % 2 for image in range(asked)], [1] * asked)
    assert judge_labels(known, one, false_stop=0.01, margin=0.0).trusted
    assert not judge_labels(known, each, false_stop=0.01, margin=0.0).trusted


def test_the_margin_is_added_to_the_bound():
    known, batch = drawn(np.random.default_rng(4), 12, 8, 0.1), drawn(np.random.default_rng(5), 8, 10, 0.1)
    without, with_it = (judge_labels(known, batch, false_stop=0.01, margin=margin).bound for margin in (0.0, 0.05))
    assert with_it == pytest.approx(without + 0.05)


def test_where_nobody_was_asked_the_labels_are_trusted_and_without_a_test_part_nothing_is_known():
    known = drawn(np.random.default_rng(6), 12, 8, 0.1)
    held = judge_labels(known, tally([], [], []), false_stop=0.01, margin=0.0)
    assert (held.disagreement, held.trusted) == (None, True)
    with pytest.raises(ValueError, match="its test part is empty"):
        judge_labels(tally([], [], []), known, false_stop=0.01, margin=0.0)
