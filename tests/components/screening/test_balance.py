import numpy as np
import pytest

from components.culture import ConfluenceClass
from components.datasets.manifest import ImageRecord
from components.novelty import TRAITS
from components.screening import balance


def images(*labels):
    return [
        ImageRecord(path=str(number), sha256="0" * 64, size=1, confluence_class=label and ConfluenceClass(label))
        for number, label in enumerate(labels)
    ]


def test_the_change_is_the_share_of_images_that_would_have_to_change_class():
    check = balance.check_balance(images(1, 1, 1, 2, None), images(1, 2, 3, 4), most=None)
    assert check.figure == pytest.approx(0.5)
    assert (check.passed, check.note) == (True, "no image of class 3, 4")


@pytest.mark.parametrize(("most", "passed"), [(None, True), (0.5, True), (0.49, False)])
def test_it_stops_only_above_a_bound_that_is_set(most, passed):
    assert balance.check_balance(images(1, 1, 1, 2), images(1, 2, 3, 4), most).passed is passed


def test_without_labels_on_both_sides_there_is_nothing_to_say():
    assert balance.check_balance(images(None), images(1), 0.1).note == "the batch has no image with a class"
    assert balance.check_balance(images(1), [], 0.1).note == "the lineage has no image with a class"


def test_the_statistic_that_changed_most_is_named_first():
    rng = np.random.default_rng(0)
    parent = rng.normal(size=(500, len(TRAITS)))
    batch = parent[:100].copy()
    batch[:, TRAITS.index("contrast")] -= 9
    found = balance.changes(batch, parent)
    assert (found[0].trait, found[0].words) == ("contrast", "flatter in contrast")
    assert found[0].size < -5
    check = balance.check_statistics(found, most=3)
    assert check.figure == pytest.approx(-found[0].size)
    assert not check.passed
    assert check.note.startswith("images are flatter in contrast (-")
    assert balance.check_statistics(None, most=3).passed
