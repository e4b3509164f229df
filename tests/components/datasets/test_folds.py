import hashlib
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.culture import ConfluenceClass
from components.datasets.folds import make_folds
from components.datasets.manifest import ImageRecord
from components.errors import DataError


def image(path, group, label, content=None, **fields):
    sha256 = hashlib.sha256((content or path).encode()).hexdigest()
    label = None if label is None else ConfluenceClass(label)
    return ImageRecord(path=path, sha256=sha256, size=1, confluence_class=label, group=group, **fields)


def vessels(count, labels=(1, 2, 3, 4), **fields):
    """Each vessel with one image of each label."""
    return [
        image(f"v{number:03}-{place}", f"v{number:03}", label, **fields)
        for number in range(count)
        for place, label in enumerate(labels)
    ]


def classes(records, rows):
    return Counter(int(records[row].confluence_class) for row in rows)


def keys(records, rows):
    return {records[row].split_group for row in rows} | {records[row].sha256 for row in rows}


def check(records, folds, *, complete=True):
    labelled = {row for row, record in enumerate(records) if record.confluence_class is not None}
    for fold in folds:
        sides = (fold.train, fold.validation, fold.test)
        for one, other in combinations(sides, 2):
            assert not keys(records, one) & keys(records, other)
        assert all(list(side) == sorted(set(side)) and side for side in sides)
        if complete:
            assert sorted(row for side in sides for row in side) == sorted(labelled)
    assert sorted(row for fold in folds for row in fold.test) == sorted(labelled)


def test_five_folds_of_even_vessels_are_even():
    records = vessels(20)
    folds = make_folds(records)
    check(records, folds)
    assert [fold.name for fold in folds] == ["1", "2", "3", "4", "5"]
    for fold in folds:
        assert classes(records, fold.test) == dict.fromkeys((1, 2, 3, 4), 4)
        assert classes(records, fold.validation) == dict.fromkeys((1, 2, 3, 4), 3)
        assert classes(records, fold.train) == dict.fromkeys((1, 2, 3, 4), 13)


drawn_images = st.lists(
    st.tuples(st.integers(0, 11), st.integers(1, 4), st.one_of(st.none(), st.integers(0, 5))), min_size=2, max_size=60
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(drawn_images, st.integers(2, 5))
def test_whatever_the_groups_no_group_and_no_image_is_on_two_sides(drawn, folds):
    records = [
        image(f"{number:03}", f"g{group}", label, None if content is None else f"shared {content}")
        for number, (group, label, content) in enumerate(drawn)
    ]
    try:
        cut = make_folds(records, folds=folds)
    except DataError:
        return
    check(records, cut)
    present = {record.confluence_class for record in records}
    for fold in cut:
        assert {records[row].confluence_class for row in fold.train} == present


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(10, 40), st.integers(0, 2**31 - 1), st.integers(2, 5))
def test_strata_are_near_equal(count, seed, folds):
    """Vessels as they are: images of one or two neighbouring classes, in unequal numbers."""
    rng = np.random.default_rng(seed)
    records = []
    for vessel in range(count):
        first = 1 + vessel % 4
        for place in range(int(rng.integers(3, 8))):
            label = min(4, first + int(rng.random() < 0.3))
            records.append(image(f"{vessel:02}-{place}", f"g{vessel:02}", label))
    cut = make_folds(records, folds=folds, seed=seed)
    check(records, cut)
    whole = classes(records, range(len(records)))
    for fold in cut:
        for label, total in whole.items():
            # A vessel, which has up to seven images of a class, is the least that can be moved.
            assert abs(classes(records, fold.test)[label] - total / folds) <= 7


def test_equal_seeds_give_equal_folds_and_other_seeds_others():
    records = vessels(20)
    assert make_folds(records, seed=3) == make_folds(records, seed=3)
    assert make_folds(records, seed=3) != make_folds(records, seed=30)


def test_groups_that_share_an_images_bytes_stay_together():
    records = [*vessels(10), image("copy", "v001", 1, content="v000-0")]
    for fold in make_folds(records):
        sides = [{records[row].group for row in side} for side in (fold.train, fold.validation, fold.test)]
        assert len([side for side in sides if {"v000", "v001"} & side]) == 1


def test_unlabelled_images_are_in_no_fold():
    records = [image("unknown", "v000", None), *vessels(10)]
    folds = make_folds(records)
    check(records, folds)
    assert all(0 not in fold.train + fold.validation + fold.test for fold in folds)


def test_the_published_protocol_leaks_by_construction():
    records = vessels(20)
    folds = make_folds(records, by="image")
    for fold in folds:
        assert fold.validation == fold.test
        assert not set(fold.train) & set(fold.test)
        shared = {records[row].group for row in fold.train} & {records[row].group for row in fold.test}
        assert len(shared) == len({records[row].group for row in fold.test})
        assert classes(records, fold.test) == dict.fromkeys((1, 2, 3, 4), 4)
    assert sorted(row for fold in folds for row in fold.test) == list(range(len(records)))


def test_one_source_is_left_out_at_a_time():
    records = [
        image(f"{source}-{vessel}-{label}", f"{source}-{vessel}", label, source=source)
        for source in ("ljubljana", "seoul", "turin")
        for vessel in range(4)
        for label in (1, 2, 3, 4)
    ]
    folds = make_folds(records, by="source")
    check(records, folds)
    assert [fold.name for fold in folds] == ["ljubljana", "seoul", "turin"]
    for fold in folds:
        assert {records[row].source for row in fold.test} == {fold.name}
        assert fold.name not in {records[row].source for row in fold.train + fold.validation}


def test_what_shares_an_image_with_the_source_left_out_is_in_no_part():
    records = [
        image(f"{lab}-{vessel}-{label}", f"{lab}-{vessel}", label, extra={"lab": lab})
        for lab in ("a", "b")
        for vessel in range(4)
        for label in (1, 2)
    ]
    records.append(image("copied", "b-0", 1, content="a-0-1", extra={"lab": "b"}))
    folds = make_folds(records, by="source", column="lab")
    check(records, folds, complete=False)
    without_a = folds[0]
    held = {records[row].group for row in without_a.train + without_a.validation}
    assert held == {"b-1", "b-2", "b-3"}


def test_other_strata_than_classes():
    records = [image(f"{number:02}", f"g{number // 2:02}", None) for number in range(40)]
    strata = [int(number % 4 == 0) for number in range(40)]
    for fold in make_folds(records, strata=strata):
        assert sum(strata[row] for row in fold.test) == 2


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        (vessels(3), {}, "5 folds need at least 5 of what is a group or vessel; there are 3"),
        (vessels(2), {"folds": 3, "by": "image"}, "3 folds need a class of at least 3 images; the commonest has 2"),
        (vessels(9), {"folds": 1}, "1 folds are not possible"),
        (vessels(9), {"folds": 50}, "50 folds are not possible"),
        (vessels(9), {"validation_fraction": 1.0}, "validation_fraction 1.0"),
        (vessels(9, labels=(2,)), {}, "cannot be cut into folds; label more"),
        (vessels(9, labels=(None,)), {}, "0 labelled images"),
        ([*vessels(9, labels=(1, 2)), image("x", "only", 4)], {}, "all images of class 4 are of one fold"),
        (vessels(2), {"folds": 2}, "no validation part leaves every class in train"),
        (vessels(9), {"by": "source"}, "image 'v000-0' has no 'source'"),
        (vessels(9, source="one"), {"by": "source"}, "'source' is 'one' for all images"),
        (vessels(9), {"by": "donors"}, "folds by 'donors' are not one of group, image, source"),
    ],
)
def test_what_cannot_be_cut_is_refused(records, options, message):
    with pytest.raises(DataError, match=message):
        make_folds(records, **options)


def test_thousands_of_images_are_cut_in_no_time():
    records = vessels(3000)
    check(records, make_folds(records))
