import pytest

from components.culture import ConfluenceClass
from components.datasets.manifest import ImageRecord
from components.screening import review
from components.screening.champion import Opinion


def image(path, label=None, **fields):
    label = label and ConfluenceClass(label)
    return ImageRecord(path=path, sha256=path * 64, size=1, confluence_class=label, **fields)


def opinion(suggested, confidence, *, wrong=0, novelty=0.5):
    return Opinion(str(suggested), confidence, novelty, wrong, 1)


def test_images_without_a_label_are_queued_the_least_sure_and_most_foreign_first():
    records = [image("a"), image("b"), image("c"), image("d", 2)]
    said = {"a": opinion(1, 0.9), "b": opinion(2, 0.4), "c": opinion(3, 0.9, novelty=3.0), "d": opinion(2, 0.3)}
    queued = review.queue(records, said)
    assert [(each.record.path, each.why) for each in queued] == [(path, "no label yet") for path in "cba"]


def test_labelled_images_are_queued_where_they_look_foreign_and_keep_their_label():
    (queued,) = review.queue([image("a", 1), image("b", 2)], {}, foreign=["b", "elsewhere"])
    assert (queued.record, queued.given) == (image("b", 2), None)


def test_of_doubted_labels_the_contradicted_do_not_stand_and_come_first():
    said = {"a": opinion(1, 0.99), "b": opinion(4, 0.6, wrong=1), "c": opinion(4, 0.9, wrong=1)}
    queued = review.queue([image("a", 1), image("b", 2), image("c", 3)], said, doubted=True)
    assert [(each.record.path, each.record.confluence_class, each.given) for each in queued] == [
        ("c", None, 3),
        ("b", None, 2),
        ("a", 1, None),
    ]
    assert queued[0].why == "labelled 3, but the champion says 4"


@pytest.mark.parametrize(("boxes", "queued"), [(None, 1), ((), 0)])
def test_for_cells_an_image_waits_until_it_was_searched(boxes, queued):
    assert len(review.queue([image("a", 1, boxes=boxes)], {}, detector=True)) == queued
