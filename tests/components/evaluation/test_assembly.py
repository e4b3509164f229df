import pytest

from components.culture import ConfluenceClass
from components.datasets.manifest import ImageRecord
from components.errors import DataError
from components.evaluation.assembly import MOST_VALUES, check_parts_are_apart, describe_data, slices


def record(path, label=1, group=None, sha256=None):
    digest = sha256 or path.encode().hex().ljust(64, "0")
    return ImageRecord(path=path, sha256=digest, size=1, confluence_class=ConfluenceClass(label), group=group)


def parts(**changes):
    usual = {
        "train": [record("a.png", 1, "v1"), record("b.png", 2, "v1")],
        "validation": [record("c.png", 1, "v2")],
        "test": [record("d.png", 4, "v3"), record("e.png", 4, "v4")],
    }
    return usual | changes


def test_parts_that_are_apart():
    check_parts_are_apart(parts())


@pytest.mark.parametrize("other", ["train", "validation"])
def test_a_group_on_both_sides_is_refused(other):
    with pytest.raises(DataError, match=f"group 'v3' is in the test part and in the {other} part"):
        check_parts_are_apart(parts(**{other: [record("x.png", group="v3")]}))


def test_the_same_picture_on_both_sides_is_refused():
    twin = record("x.png", group="v9", sha256=record("d.png").sha256)
    with pytest.raises(DataError, match="image content"):
        check_parts_are_apart(parts(train=[twin]))


def test_data_are_counted_by_part_and_class():
    given = {"version": "1", "lineage": "l", "split_id": "2", "majority_class": 1}
    data = describe_data(parts(), **given, quarantined={"blank": 2.0})
    assert data.counts["train"] == {1: 1, 2: 1, 3: 0, 4: 0}
    assert data.counts["test"] == {1: 0, 2: 0, 3: 0, 4: 2}
    assert data.groups == {"train": 1, "validation": 1, "test": 2}
    assert data.quarantined == {"blank": 2}
    assert describe_data(parts(), **given, quarantined=None).quarantined is None


def test_slices_cover_the_fields_that_differ(make_scored):
    scored = make_scored(n=60)
    found = slices(scored)
    assert {each.field for each in found} == {"source", "day"}  # every donor is unknown
    here = next(each for each in found if each.value == "here")
    assert here.n == 30
    assert here.accuracy.value == pytest.approx(scored.right[::2].mean())
    days = [each.value for each in found if each.field == "day"]
    assert len(days) == MOST_VALUES and days == sorted(days, key=int)


def test_evidence_follows_from_the_answers(make_scored, make_evidence):
    scored = make_scored(n=50)
    evidence = make_evidence(scored)
    assert sum(sum(row) for row in evidence.confusion) == 50
    assert sum(evidence.confusion[k][k] for k in range(4)) == scored.right.sum()
    assert [answer.path for answer in evidence.answers] == list(scored.paths)
    assert evidence.measured.figures == scored.measured().figures
    # The majority class, answered always, is right as often as it occurs.
    assert evidence.blind["accuracy"] == evidence.measured.value("majority_accuracy") == (scored.truth == 1).mean()
    assert evidence.blind["quadratic_kappa"] == pytest.approx(0)
