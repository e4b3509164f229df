from collections import Counter

import pytest

from components.culture import Modality, Task
from components.errors import DataError
from components.settings import load_settings
from pipelines.study.plan import make_plan


def test_every_cell_has_its_folds(make_options, make_vessels):
    records = make_vessels(10) + make_vessels(10, modality=Modality.MULTI_STACK)
    options = make_options(
        backbones=("shufflenet_v2", "mobilenet_v3"),
        protocols=("grouped", "published"),
        clumps=("kept", "masked"),
        equalisations=("none", "clahe"),
        folds=3,
    )
    plan = make_plan(options, records)
    counts = Counter(unit.cell.modality for unit in plan.units)
    # Clumps are masked in stacked flasks alone.
    assert counts == {Modality.SINGLE_STACK: 2 * 2 * 2 * 3, Modality.MULTI_STACK: 2 * 2 * 2 * 2 * 3}
    assert len({unit.key for unit in plan.units}) == len(plan.units)
    assert plan.notes == ()


def test_all_networks_are_judged_on_the_same_folds(make_options, make_vessels):
    plan = make_plan(make_options(backbones=("shufflenet_v2", "mobilenet_v3")), make_vessels(10))
    by_backbone = [
        [unit.fold for unit in plan.units if unit.cell.backbone == name] for name in ("shufflenet_v2", "mobilenet_v3")
    ]
    assert by_backbone[0] == by_backbone[1]


def test_the_published_protocol_chooses_on_the_scored_fold_and_the_grouped_one_never(make_options, make_vessels):
    records = make_vessels(10)
    plan = make_plan(make_options(protocols=("grouped", "published")), records)
    for unit in plan.units:
        train, chosen, scored = (
            {records[row].split_group for row in part}
            for part in (unit.fold.train, unit.fold.validation, unit.fold.test)
        )
        if unit.cell.protocol == "published":
            assert unit.fold.validation == unit.fold.test
            assert train & scored
        else:
            assert not (train & scored or chosen & scored or train & chosen)


def test_each_fold_has_a_seed_of_its_own_that_hangs_on_nothing_else(make_options, make_vessels):
    plan = make_plan(make_options(backbones=("shufflenet_v2", "mobilenet_v3")), make_vessels(10))
    seeds = {unit.fold.name: unit.settings.seed for unit in plan.units}
    assert seeds == {"1": 0, "2": 1, "3": 2, "4": 3, "5": 4}
    assert all(unit.settings.seed == seeds[unit.fold.name] for unit in plan.units)


def changed(make_options, **sections):
    return make_options(
        settings=load_settings(
            training={"weights": "none", "image_size": 64, **sections.pop("training", {})}, **sections
        )
    )


def test_a_key_holds_all_that_a_result_depends_on_and_no_more(make_options, make_vessels, make_image):
    records = make_vessels(10)
    key = make_plan(make_options(), records).units[0].key
    same = [
        make_plan(make_options(backbones=("shufflenet_v2", "mobilenet_v3")), records),
        make_plan(changed(make_options, study={"processes": 7}), records),
        make_plan(changed(make_options, gate={"min_accuracy": 0.9}), records),
        make_plan(changed(make_options, detection={"width": 64}), records),
    ]
    assert all(plan.units[0].key == key for plan in same)
    others = [
        make_plan(changed(make_options, training={"epochs": 3}), records),
        make_plan(changed(make_options, training={"learning_rate": 1e-3}), records),
        make_plan(changed(make_options, search={"trials": 9}), records),
        make_plan(changed(make_options, split={"seed": 4}), records),
        make_plan(make_options(), [*records, make_image("new", "v99", 1)]),
        make_plan(make_options(), [make_image(records[0].path, "v00", 2), *records[1:]]),
    ]
    assert len({key, *(plan.units[0].key for plan in others)}) == 1 + len(others)


def test_with_a_fixed_rate_the_search_does_not_matter(make_options, make_vessels):
    keys = {
        make_plan(changed(make_options, training={"learning_rate": 1e-3}, search={"trials": trials}), make_vessels(10))
        .units[0]
        .key
        for trials in (3, 4)
    }
    assert len(keys) == 1


def test_detectors_take_the_backbones_that_can(make_options, make_vessels):
    plan = make_plan(make_options(tasks=tuple(Task), backbones=("shufflenet_v2", "vit")), make_vessels(10))
    found = Counter((unit.cell.task, unit.cell.backbone) for unit in plan.units)
    assert found == {
        (Task.CONFLUENCE, "shufflenet_v2"): 5,
        (Task.CONFLUENCE, "vit"): 5,
        (Task.ABNORMAL_CELLS, "shufflenet_v2"): 5,
    }
    none = make_plan(make_options(tasks=tuple(Task), backbones=("vit",)), make_vessels(10))
    assert "no Table 2; those that can: efficientnet_lite0" in none.notes[0]


def test_images_with_and_without_abnormal_cells_are_spread_over_the_folds(make_options, make_vessels):
    records = make_vessels(10)
    plan = make_plan(make_options(tasks=(Task.ABNORMAL_CELLS,)), records)
    for unit in plan.units:
        assert sum(bool(records[row].boxes) for row in unit.fold.test) == 4


def test_what_cannot_be_served_is_noted(make_options, make_vessels, make_image):
    unboxed = [make_image(record.path, record.group, int(record.confluence_class)) for record in make_vessels(10)]
    plan = make_plan(make_options(tasks=tuple(Task), modalities=tuple(Modality)), unboxed)
    assert plan.notes == (
        "No image has a box around an abnormal cell, so there is no Table 2.",
        "No image of modality multi_stack can be used.",
    )


def test_images_without_labels_are_refused(make_options, make_image):
    with pytest.raises(DataError, match="no image in photos has a confluence class; name classes"):
        make_plan(make_options(), [make_image("a", "g", None)])
    with pytest.raises(DataError, match="no image of modality multi_stack in photos"):
        make_plan(make_options(modalities=(Modality.MULTI_STACK,)), [make_image("a", "g", 1)])


def test_too_few_vessels_are_refused_by_name_of_what_they_are(make_options, make_vessels):
    with pytest.raises(DataError, match="single_stack, confluence: 5 folds need at least 5 of what is a group"):
        make_plan(make_options(), make_vessels(4))


def test_a_source_is_left_out_at_a_time(make_options, make_image):
    records = [
        make_image(f"{lab}{n}-{label}", f"{lab}{n}", label, extra={"lab": lab})
        for lab in ("seoul", "turin")
        for n in range(4)
        for label in (1, 2, 3, 4)
    ]
    plan = make_plan(make_options(protocols=("grouped", "left_out"), leave_out="lab", folds=2), records)
    assert [unit.fold.name for unit in plan.units if unit.cell.protocol == "left_out"] == ["seoul", "turin"]
