import hashlib
import json
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.culture import ConfluenceClass
from components.datasets.frozen import read_frozen
from components.datasets.manifest import ImageRecord
from components.datasets.splits import PARTS, load_split, make_split
from components.datasets.versions import DataRepository
from components.errors import DataError, IntegrityError, ObjectNotFound
from components.settings import SplitSettings
from components.storage import open_store

SETTINGS = SplitSettings()


def image(path, group, label, content=None):
    sha256 = hashlib.sha256((content or path).encode()).hexdigest()
    label = None if label is None else ConfluenceClass(label)
    return ImageRecord(path=path, sha256=sha256, size=1, confluence_class=label, group=group)


def vessels(count, labels=(1, 2, 3, 4), prefix="v"):
    """Each vessel with one image of each label."""
    return [
        image(f"{prefix}{number:03}-{place}", f"{prefix}{number:03}", label)
        for number in range(count)
        for place, label in enumerate(labels)
    ]


def cut(repository, records, lineage="line", chosen=SETTINGS):
    """Split records and give the split and the part of each path."""
    split = make_split(repository, repository.add_version(records), lineage, chosen)
    parts = {record.path: part for part, some in load_split(repository, split.id).items() for record in some}
    return split, parts


def units(records):
    """What must stay together, the slow way: sets that grow until nothing links them."""
    sets = [({record.group, record.sha256}, [record]) for record in records]
    merged = True
    while merged:
        merged = False
        for first in range(len(sets)):
            for second in range(first + 1, len(sets)):
                if sets[first][0] & sets[second][0]:
                    sets[first] = (sets[first][0] | sets[second][0], sets[first][1] + sets[second][1])
                    del sets[second]
                    merged = True
                    break
            if merged:
                break
    return [members for _, members in sets]


def test_shares_are_those_of_the_settings(repository):
    split, parts = cut(repository, vessels(20))
    assert split.counts == {part: dict.fromkeys("1234", n) for part, n in zip(PARTS, (12, 4, 4), strict=True)}
    assert split.groups == {"train": 12, "validation": 4, "test": 4}
    assert Counter(parts.values()) == {"train": 48, "validation": 16, "test": 16}
    assert (split.missing, split.withheld) == ([], [])


def test_loading_gives_the_records_of_each_part(repository):
    records = vessels(10)
    split, _ = cut(repository, records)
    loaded = load_split(repository, split.id)
    assert sorted((record for part in loaded.values() for record in part), key=lambda record: record.path) == records
    assert [record.path for record in loaded["train"]] == sorted(record.path for record in loaded["train"])


def test_unlabelled_images_are_in_no_part(repository):
    _, parts = cut(repository, [*vessels(10), image("unknown", "v001", None)])
    assert "unknown" not in parts


def test_the_seed_decides_and_nothing_else(repository):
    records = vessels(30, labels=(1, 2))
    first, again, other = (
        cut(repository, records, name, SplitSettings(seed=seed))[1] for name, seed in (("a", 1), ("b", 1), ("c", 60))
    )
    assert first == again != other


def test_a_split_can_be_repeated(repository):
    records = vessels(10)
    assert cut(repository, records) == cut(repository, records)


images = st.lists(
    st.tuples(st.integers(0, 11), st.integers(1, 4), st.one_of(st.none(), st.integers(0, 5))), min_size=1, max_size=60
)


def drawn_records(drawn, prefix=""):
    return [
        image(f"{prefix}{number:03}", f"g{group}", label, None if content is None else f"shared {content}")
        for number, (group, label, content) in enumerate(drawn)
    ]


def check(records, parts):
    groups, contents = {}, {}
    for record in records:
        if record.path in parts:
            groups.setdefault(record.group, set()).add(parts[record.path])
            contents.setdefault(record.sha256, set()).add(parts[record.path])
    assert all(len(sides) == 1 for sides in (*groups.values(), *contents.values()))
    present = {record.confluence_class for record in records}
    assert {record.confluence_class for record in records if parts.get(record.path) == "train"} == present
    assert set(parts.values()) == set(PARTS)


def enough_for(records):
    """Whether each class has the three units that three parts need."""
    present = {record.confluence_class for record in records}
    spread = Counter(label for members in units(records) for label in {record.confluence_class for record in members})
    return len(present) > 1 and min(spread.values()) >= 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(images)
def test_whatever_the_groups_no_group_and_no_image_is_on_two_sides(drawn):
    records = drawn_records(drawn)
    with tempfile.TemporaryDirectory() as folder:
        repository = DataRepository(open_store(folder))
        if not enough_for(records):
            with pytest.raises(DataError):
                cut(repository, records)
            return
        _, parts = cut(repository, records)
        assert parts.keys() == {record.path for record in records}
        check(records, parts)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(images, images, st.sets(st.integers(0, 80), max_size=5))
def test_whatever_the_batch_test_stays_test_and_what_was_learnt_never_becomes_it(drawn, batch, dropped):
    base = drawn_records(drawn) + vessels(5)
    kept = [record for number, record in enumerate(base) if number not in dropped]
    with tempfile.TemporaryDirectory() as folder:
        repository = DataRepository(open_store(folder))
        _, before = cut(repository, base)
        records = kept + drawn_records(batch, "new")
        try:
            split, after = cut(repository, records)
        except DataError:
            return  # the batch joined so much that a class has too few groups left beside the test part
        check(records, after)
        part_of = {record.sha256: before[record.path] for record in base}
        group_part = {record.group: before[record.path] for record in base}
        for record in records:
            part = after.get(record.path)
            earlier = {part_of.get(record.sha256), group_part.get(record.group)} - {None}
            if part == "test":
                assert earlier <= {"test"}
            elif part is not None:
                assert "test" not in earlier
            else:
                assert record.path in split.withheld
        for record in kept:
            if before[record.path] == "test":
                assert after[record.path] == "test"


def test_a_batch_gets_its_own_test_share(repository):
    base, batch = vessels(20), vessels(20, prefix="new")
    _, before = cut(repository, base)
    split, after = cut(repository, base + batch)
    assert {path for path, part in after.items() if part == "test"} > {
        path for path in before if before[path] == "test"
    }
    assert split.counts["test"] == dict.fromkeys("1234", 8)
    assert Counter(after[record.path] for record in batch)["test"] == 16


def test_batches_of_single_vessels_reach_the_test_part_in_the_end(repository):
    records = vessels(10)
    for number in range(10):
        records += vessels(1, prefix=f"batch{number}-")
        split, _ = cut(repository, records)
    assert split.groups["test"] == 4


def test_images_that_left_are_recorded_as_missing(repository):
    records = vessels(10)
    _, parts = cut(repository, records)
    gone = next(path for path, part in parts.items() if part == "test")
    split, _ = cut(repository, [record for record in records if record.path != gone])
    assert split.missing == [gone]


def test_a_test_image_stays_one_under_another_name_and_in_another_group(repository):
    records = vessels(10)
    _, before = cut(repository, records)
    moved = next(record for record in records if before[record.path] == "test")
    # So many beside it that nobody would draw the group for the test part.
    another = [image(f"new{number:02}", "another", 1) for number in range(40)]
    another.append(image("renamed", "another", 1, content=moved.path))
    _, after = cut(repository, [*(record for record in records if record != moved), *another])
    assert {after[record.path] for record in another} == {"test"}


def test_what_was_learnt_under_another_group_is_withheld_from_the_test(repository):
    records = vessels(10)
    _, before = cut(repository, records)
    learnt = next(record for record in records if before[record.path] == "train")
    tested = next(record for record in records if before[record.path] == "test")
    renamed = image("renamed", tested.group, 1, content=learnt.path)
    split, after = cut(repository, [*(record for record in records if record != learnt), renamed])
    assert split.withheld == ["renamed"]
    assert "renamed" not in after
    assert after[tested.path] == "test"


def test_lineages_do_not_know_of_each_other(repository):
    _, parts = cut(repository, vessels(10), "one")
    _, other = cut(repository, [record for record in vessels(10) if parts[record.path] == "train"], "two")
    assert "test" in other.values()


def test_the_frozen_part_holds_what_was_tested_and_what_was_learnt(repository):
    records = vessels(10)
    _, parts = cut(repository, records)
    frozen, _ = read_frozen(repository.store, "line")
    assert {kept.path for kept in frozen.test} == {path for path, part in parts.items() if part == "test"}
    assert set(frozen.learnt_groups) == {record.group for record in records if parts[record.path] != "test"}
    assert len(frozen.learnt_images) == len(records) - len(frozen.test)


def test_a_process_killed_before_the_split_was_stored_changes_nothing(repository):
    records = vessels(10)
    split, parts = cut(repository, records)
    repository.store.delete(f"splits/{split.id}.jsonl")
    with pytest.raises(DataError, match="holds no split"):
        load_split(repository, split.id)
    assert cut(repository, records) == (split, parts)


def test_two_at_once_settle_one_test_part(repository):
    both = [repository.add_version(vessels(10)), repository.add_version(vessels(20))]
    with ThreadPoolExecutor(2) as pool:
        splits = list(pool.map(lambda version: make_split(repository, version, "line", SETTINGS), both * 3))
    sides = {}
    for split in splits:
        for part, records in load_split(repository, split.id).items():
            for record in records:
                sides.setdefault(record.path, set()).add(part == "test")
    assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (vessels(5, labels=(2,)), r"has only class 2 among its 5 images; a classifier needs at least 2 classes"),
        ([image("a", "v", None)], r"has no image with a class"),
        (
            vessels(2),
            r"class 1 has images in 2 group\(s\) or vessel\(s\), but train, validation and test need at least",
        ),
        ([*vessels(9, (1, 2)), image("x", "x", 4)], r"class 4 has images in 1 .*from 2 more, or remove the class"),
        ([*vessels(9, (1, 2)), *(image(n, "x", 4) for n in "abcdef")], r"class 4 has images in 1 "),
    ],
)
def test_too_few_classes_or_groups(repository, records, message):
    with pytest.raises(DataError, match=message):
        cut(repository, records)
    assert list(repository.store.list("splits/")) == []


def test_a_class_that_is_new_needs_vessels_beside_the_frozen_test_part(repository):
    records = vessels(10, labels=(1, 2))
    cut(repository, records)
    late = [image("late", "late", 4)]
    with pytest.raises(
        DataError, match=r"class 4 has images in 1 group\(s\) or vessel\(s\) beside the frozen test part"
    ):
        cut(repository, records + late)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "ü", "f" * 64])
def test_names_that_no_lineage_can_have(repository, name):
    with pytest.raises(DataError, match="cannot name a lineage"):
        cut(repository, vessels(10), name)


def test_an_altered_split_is_refused(repository):
    split, _ = cut(repository, vessels(10))
    key = f"splits/{split.id}.jsonl"
    repository.store.write(key, repository.store.read(key).replace(b'"test"', b'"train"', 1))
    with pytest.raises(IntegrityError, match="was altered"):
        load_split(repository, split.id)


def test_an_altered_frozen_part_is_refused(repository):
    records = vessels(10)
    cut(repository, records)
    repository.store.write("splits/frozen/line.json", b"{}")
    with pytest.raises(IntegrityError, match=r"splits/frozen/line\.json .* was altered"):
        cut(repository, records)


def test_s3_holds_splits_too(s3_uri):
    repository = DataRepository(open_store(s3_uri))
    split, parts = cut(repository, vessels(10))
    assert cut(repository, vessels(10)) == (split, parts)
    with pytest.raises(ObjectNotFound):
        repository.store.read("splits/frozen/other.json")


def test_thousands_of_vessels_are_divided_evenly(tmp_path: Path):
    repository = DataRepository(open_store(tmp_path))
    records = [image(f"{number:05}", f"v{number // 2}", number * 7 % 10 % 4 + 1) for number in range(6000)]
    split, parts = cut(repository, records)
    totals = Counter(str(int(record.confluence_class)) for record in records)
    for label, total in totals.items():
        assert split.counts["test"][label] == pytest.approx(total / 5, rel=0.1)
        assert split.counts["validation"][label] == pytest.approx(total / 5, rel=0.1)
    check(records, parts)


def test_what_was_trained_on_never_becomes_a_validation_image(repository):
    records, ever_trained = vessels(10), set()
    for number in range(6):
        split, parts = cut(repository, records, chosen=SplitSettings(seed=number))
        validation = {path for path, part in parts.items() if part == "validation"}
        assert not validation & ever_trained
        ever_trained |= {path for path, part in parts.items() if part == "train"}
        records += vessels(5, prefix=f"batch{number}-")
    assert split.groups["validation"] == pytest.approx(0.2 * 35, abs=2), "it has its share of what is new"


def test_sides_are_kept_whatever_the_seed(repository):
    records = vessels(12)
    _, before = cut(repository, records, chosen=SplitSettings(seed=1))
    _, after = cut(repository, records, chosen=SplitSettings(seed=60, validation_fraction=0.4))
    assert before == after


def test_what_chose_models_is_trained_on_where_a_class_has_nothing_else(repository):
    records = vessels(9, (1, 2)) + vessels(3, (4,), "rare")
    _, before = cut(repository, records)
    lost = {path for path, part in before.items() if part == "train" and path.startswith("rare")}
    spare = vessels(1, (4,), "spare")
    _, after = cut(repository, [record for record in records if record.path not in lost] + spare)
    check([record for record in records if record.path in after] + spare, after)


def test_a_lineage_of_before_validation_was_kept_draws_it_once_more_and_then_keeps_it(repository):
    records = vessels(10)
    _, first = cut(repository, records)
    key = "splits/frozen/line.json"
    old = json.loads(repository.store.read(key))
    repository.store.write(key, json.dumps({k: v for k, v in old.items() if "validation" not in k}).encode())
    _, parts = cut(repository, records)
    assert {path for path, part in parts.items() if part == "test"} == {
        path for path, part in first.items() if part == "test"
    }
    _, again = cut(repository, records + vessels(5, prefix="new"), chosen=SplitSettings(seed=7))
    assert all(again[path] == part for path, part in parts.items())
