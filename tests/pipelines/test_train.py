"""The compiled pipeline: what runs after what, and what may come from a cache."""

import inspect

import pytest
import yaml

from components.settings import load_settings
from pipelines.arguments import pipeline_arguments
from pipelines.compile import compile_pipeline
from pipelines.steps import STEPS
from pipelines.train import train_pipeline


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "train.yaml"
    compile_pipeline("train", path)
    return next(yaml.safe_load_all(path.read_text()))


@pytest.fixture(scope="module")
def tasks(spec):
    """All tasks by name, those of nested pipelines included."""
    dags = [spec["root"]["dag"], *(part["dag"] for part in spec["components"].values() if "dag" in part)]
    return {name: task for dag in dags for name, task in dag["tasks"].items()}


def test_every_step_is_in_it(tasks):
    assert set(STEPS) <= set(tasks)


def test_only_steps_that_hang_on_their_inputs_alone_are_cached(tasks):
    cached = {name for name in STEPS if tasks[name]["cachingOptions"].get("enableCache")}
    assert cached == {"validate", "search", "train", "evaluate"}


def test_a_model_is_deployed_only_behind_the_gate(spec):
    (condition,) = (
        task["triggerPolicy"]["condition"]
        for part in spec["components"].values()
        for task in part.get("dag", {}).get("tasks", {}).values()
        if "condition" in task.get("triggerPolicy", {})
    )
    assert "passed" in condition
    handled = spec["root"]["dag"]["tasks"]["exit-handler-1"]["componentRef"]["name"]
    outside = spec["components"][handled]["dag"]["tasks"]
    assert "deploy" not in outside
    assert outside["rollout"]["inputs"]["parameters"]["passed"]["taskOutputParameter"]["producerTask"] == "promote"


def test_the_images_hold_the_code_and_nothing_is_installed_at_run_time(spec):
    for executor in spec["deploymentSpec"]["executors"].values():
        command = " ".join(executor["container"]["command"])
        assert "pip install" not in command
        assert executor["container"]["image"].startswith("mscflow/")


def test_the_settings_give_every_parameter(tmp_path):
    arguments = pipeline_arguments(load_settings(home=tmp_path), "images")
    assert set(arguments) == set(inspect.signature(train_pipeline.pipeline_func).parameters)
