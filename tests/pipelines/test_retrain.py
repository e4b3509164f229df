"""A batch's whole way: taken in, screened, learnt from, judged and served; and the ways that end before that."""

import csv
import inspect
import shutil

import pytest
import yaml

from components.settings import load_settings
from pipelines.arguments import retrain_arguments
from pipelines.cli.run import merge
from pipelines.compile import compile_pipeline
from pipelines.retrain import retrain_pipeline
from pipelines.steps import RETRAIN_STEPS
from pipelines.summaries import summary

from .retraining import LINEAGE, Laboratory, prepare

BEFORE_LEARNING = RETRAIN_STEPS[:3]


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "retrain.yaml"
    compile_pipeline("retrain", path)
    return next(yaml.safe_load_all(path.read_text()))


def dags(spec):
    return {"root": spec["root"]["dag"], **{k: part["dag"] for k, part in spec["components"].items() if "dag" in part}}


def test_every_step_is_in_it_once_but_the_last_which_ends_each_way(spec):
    executed = [
        task["componentRef"]["name"].removeprefix("comp-")
        for dag in dags(spec).values()
        for task in dag["tasks"].values()
        if "dag" not in spec["components"][task["componentRef"]["name"]]
    ]
    steps = [name.split("-")[0] for name in executed]
    # Three short steps are one process.
    assert set(steps) == {*RETRAIN_STEPS, "end"} - {"validate", "split"}
    assert {name: steps.count(name) for name in set(steps) if steps.count(name) > 1} == {"conclude": 3}


def test_only_steps_that_hang_on_their_inputs_alone_are_cached(spec):
    tasks = [(name, task) for dag in dags(spec).values() for name, task in dag["tasks"].items()]
    cached = {name for name, task in tasks if task.get("cachingOptions", {}).get("enableCache")}
    assert {name for name in cached if not name.startswith("condition")} == {"search", "train", "evaluate"}


def test_conditions_look_at_inputs_of_their_own_pipeline(spec):
    """``kfp.local`` skips, without a word, those that look at a named output of a task beside them."""
    for dag in dags(spec).values():
        for task in dag["tasks"].values():
            if "condition" in task.get("triggerPolicy", {}):
                assert all("componentInputParameter" in given for given in task["inputs"]["parameters"].values())


def test_the_settings_give_every_parameter(tmp_path):
    arguments = retrain_arguments(load_settings(home=tmp_path), "batches", "", LINEAGE, "operator-1")
    assert set(arguments) == set(inspect.signature(retrain_pipeline.pipeline_func).parameters)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, mscflow):
    made = prepare(tmp_path_factory.mktemp("retrained"), mscflow, batches=4)
    yield made
    mscflow("--home", "home", "serve", "--stop", cwd=made.folder)


@pytest.fixture(scope="module")
def released(lab):
    done = lab.run(lab.folder / "b1")
    assert done.code == 0, done.err
    return done.json["results"]


@pytest.mark.slow
class TestAWholeRun:
    def test_every_step_tells_what_came_of_it(self, released):
        assert set(released) == set(RETRAIN_STEPS)
        assert released["screen"]["verdict"] == "admitted"
        assert released["admit"]["images"] == 84
        assert released["conclude"]["ended"] == "released"
        said = {step: summary({"step": step, "result": result}) for step, result in released.items()}
        assert said["poll"] == "batch b1, attempt 1"
        assert said["champion"] == "version 1"
        assert "after" in said["search"]
        assert "started from" in said["train"]

    def test_it_begins_where_the_champion_ended(self, released):
        assert released["champion"]["version"] == "1"
        assert set(released["train"]["starts"]) == {"champion", "scratch"}
        assert released["search"]["earlier"] >= 1

    def test_the_frozen_test_part_is_that_of_before_and_a_share_of_the_batch(self, lab, released):
        from components.datasets.splits import load_split
        from components.datasets.versions import DataRepository
        from components.registry.versions import Registry
        from components.storage import open_store

        repository = DataRepository(open_store(lab.settings.store_uri))
        first = Registry(lab.settings.mlflow_uri).show("confluence-single-stack", "1").split_id
        before, after = (load_split(repository, split) for split in (first, released["split"]["split_id"]))
        assert {record.sha256 for record in before["test"]} < {record.sha256 for record in after["test"]}
        assert any(record.batch == "b1" for record in after["test"])
        for part in ("train", "validation"):
            assert {record.sha256 for record in before[part]} <= {record.sha256 for record in after[part]}

    def test_the_new_champion_serves(self, lab, released):
        assert released["deploy"]["swapped"]
        assert released["verify"]["digest"] == released["register"]["digest"]
        lab.check_whole()
        assert "run.finished" in lab.actions()
        (record,) = lab.records()
        assert (record.name, record.state, record.outcome["ended"]) == ("b1", "done", "released")

    def test_the_batch_again_is_nothing_new(self, lab, released):
        done = lab.run(lab.folder / "b1", owner="operator-2")
        assert done.code == 0, done.err
        assert set(done.json["results"]) == {"poll"}

    def test_a_refused_model_leaves_the_champion_and_is_told(self, lab, released):
        strict = Laboratory(lab.folder, (0, 0), **{**lab.given, "gate": {**lab.given["gate"], "min_accuracy": 1}})
        done = strict.run(lab.folder / "b2")
        assert done.code == 0, done.err
        results = done.json["results"]
        assert results["conclude"]["ended"] == "refused"
        assert results["conclude"]["reasons"]
        assert "deploy" not in results
        assert lab.records()[-1].outcome["version"] == results["register"]["version"]
        lab.check_whole()

    def test_a_batch_without_labels_waits_for_a_person(self, lab, released):
        batch = lab.folder / "b3"
        with (batch / "labels.csv").open() as file:
            rows = list(csv.DictReader(file))
        with (batch / "labels.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [name for name in rows[0] if name not in ("class", "confluence")])
            writer.writeheader()
            writer.writerows({name: row[name] for name in writer.fieldnames} for row in rows)
        done = lab.run(batch)
        assert done.code == 0, done.err
        assert set(done.json["results"]) == {*BEFORE_LEARNING, "conclude"}
        assert done.json["results"]["conclude"]["ended"] == "queued"

    def test_a_batch_that_cannot_be_read_is_told_in_a_sentence(self, lab, released):
        empty = lab.folder / "empty"
        empty.mkdir()
        done = lab.run(empty)
        shutil.rmtree(empty)
        assert done.code == 2
        assert "Traceback" not in done.err

    def test_a_run_that_fails_is_told_as_failed_and_gives_its_turn_back(self, lab, released):
        wrong = Laboratory(lab.folder, (0, 0), **merge(lab.given, {"training": {"backbone": "inception_v3"}}))
        done = wrong.run(lab.folder / "b4")
        assert done.code == 2
        assert "step 'search'" in done.err
        (record,) = (each for each in lab.records() if each.name == "b4")
        assert (record.state, record.outcome["exit_code"]) == ("failed", 2)
        assert "step 'search'" in record.outcome["reasons"][0]
        assert lab.actions()[-1] == "run.failed"
