"""Every step with a home of its own, gone afterwards as in a container: they share the store and the registry."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kfp import dsl

from components import tracking
from components.batches.component import admit, conclude, intake, poll
from components.datasets.component import snapshot, split, validate
from components.evaluation.component import evaluate
from components.patience import RUN_VARIABLE
from components.registry.component import champion, promote, register
from components.registry.versions import Alias, Registry
from components.screening.component import screen
from components.settings import load_settings, sqlite_uri
from components.storage import open_store
from components.training.component import train
from components.tuning.component import search
from pipelines.arguments import pipeline_arguments, retrain_arguments

from .conftest import Done
from .retraining import LINEAGE, MODEL, SETTINGS

pytestmark = pytest.mark.timeout(250)

ARTIFACTS = ("trials", "model", "candidate", "metrics", "report_page", "screening_page")
_SEVERAL = {"admitted": "admit", "validated": "validate", "divided": "split"}


class Alone:
    """Runs a step as a pipeline does in a container: what lies in its home is gone with it.

    Args:
        place: Folder that the artifacts of this run go to.
        home: Where each step's home is, one after the other.
        given: Parameters of the pipeline.
    """

    def __init__(self, place: Path, home: Path, given: dict[str, Any]) -> None:
        self.place, self.home, self.given = place, home, given
        self.results: dict[str, dict[str, Any]] = {}

    def __call__(self, step: Any, **inputs: Any) -> Any:
        """Run a step with the pipeline's own parameters and these inputs; give its outputs by name."""
        wanted = step.component_spec.inputs
        own = {name: self.given[name] for name in wanted if name in self.given}
        made = {name: self.artifact(step.name, name) for name in step.component_spec.outputs if name in ARTIFACTS}
        try:
            outputs = step.python_func(**{**own, **made, **inputs})
        finally:
            shutil.rmtree(self.home, ignore_errors=True)
        named = [name for name in step.component_spec.outputs if name not in ARTIFACTS]
        told = {**made, **dict(zip(named, outputs, strict=True))}
        # One that does what are several steps on paper gives a result for each.
        results = {_SEVERAL.get(name, step.name): told[name] for name in ("result", *_SEVERAL) if name in told}
        self.results |= {name: json.loads(result) for name, result in results.items()}
        return told

    def artifact(self, step: str, name: str) -> dsl.Artifact:
        """Give an artifact that a step is to write."""
        kind = {"model": dsl.Model, "candidate": dsl.Model, "metrics": dsl.Metrics}.get(name, dsl.Artifact)
        path = self.place / step / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return kind(name=name, uri=str(path), metadata={})


class World(NamedTuple):
    """What all steps share, beside their inputs and outputs."""

    folder: Path
    store: str
    tracking_uri: str
    home: Path

    def run(self, name: str, arguments: Callable[..., dict[str, Any]], *about: str) -> Alone:
        """Begin a run of a pipeline with the parameters that its settings give."""
        settings = load_settings(**SETTINGS, store=self.store, tracking_uri=self.tracking_uri, home=str(self.home))
        return Alone(self.folder / name, self.home, arguments(settings, *about))


@pytest.fixture
def world(tmp_path: Path, mscflow: Callable[..., Done], monkeypatch: pytest.MonkeyPatch) -> World:
    for name, images, seed in (("cultures", 40, 0), ("b1", 24, 1)):
        given = ("--images", images, "--size", 64, "--seed", seed)
        assert mscflow("data", "simulate", name, *given, cwd=tmp_path).code == 0
    (tmp_path / "b1" / "_COMPLETE").touch()
    made = World(tmp_path, str(tmp_path / "store"), sqlite_uri(tmp_path / "mlflow.db"), tmp_path / "home")
    monkeypatch.delenv(tracking.RUN_ID_VARIABLE, raising=False)
    for name, value in (("STORE", made.store), ("TRACKING_URI", made.tracking_uri), ("HOME", str(made.home))):
        monkeypatch.setenv(f"MSCFLOW_{name}", value)
    monkeypatch.setenv("MSCFLOW_SEARCH__STORAGE", f"sqlite:///{tmp_path / 'searches.db'}")
    return made


def judge(alone: Alone, fitted: Any, found: Any, about: dict[str, Any]) -> Any:
    evaluated = alone(
        evaluate, model=fitted["model"], trials=found["trials"], settings=alone.given["evaluating"], **about
    )
    registered = alone(register, candidate=evaluated["candidate"])
    version = {"name": registered["name"], "version": registered["version"], "split_id": about["split_id"]}
    return alone(promote, settings=alone.given["gate"], **version)


def first_model(world: World) -> None:
    """Train the first champion, each step alone."""
    alone = world.run("first", pipeline_arguments, str(world.folder / "cultures"))
    taken = alone(snapshot, settings=alone.given["data"])
    fit = alone(validate, data_version=taken["data_version"], settings=alone.given["data"])
    known = {"data_version": fit["data_version"], "lineage": taken["lineage"]}
    divided = alone(split, settings=alone.given["splitting"], **known)
    chosen = {"split_id": divided["split_id"]}
    found = alone(search, settings=alone.given["searching"], **chosen)
    fitted = alone(train, learning_rate=found["learning_rate"], settings=alone.given["training"], **chosen)
    assert judge(alone, fitted, found, {**known, **chosen, "quarantined": fit["quarantined"]})["passed"]


def retrained(world: World) -> Alone:
    """Take a batch through the retraining pipeline, each step alone."""
    alone = world.run("second", retrain_arguments, "", str(world.folder / "b1"), LINEAGE, "operator-1")
    polled = alone(poll)
    batch = {"name": polled["name"], "batch_id": polled["batch_id"]}
    taken = alone(intake, uri=polled["uri"], name=polled["name"], settings=alone.given["data"])
    screened = alone(screen, batch_version=taken["batch_version"])
    admitted = alone(admit, admissible=screened["admissible"], **batch)
    led = alone(champion, name=MODEL, data_version=admitted["data_version"])
    chosen = {"split_id": admitted["split_id"], "champion": led["digest"]}
    found = alone(search, settings=alone.given["searching"], **chosen)
    again = json.loads(alone(search, settings=alone.given["searching"], **chosen)["result"])
    assert again["resumed"] == 2, "trials in a database outlast the home, those of a killed search, too"
    fitted = alone(train, learning_rate=found["learning_rate"], settings=alone.given["training"], **chosen)
    about = {name: admitted[name] for name in ("data_version", "split_id", "lineage", "quarantined")}
    judge(alone, fitted, found, about)
    alone(conclude, **batch, **{name: json.dumps(result) for name, result in alone.results.items()})
    return alone


def test_a_retraining_whose_steps_share_no_home_goes_on_from_the_champion(world, monkeypatch):
    first_model(world)
    monkeypatch.setenv(RUN_VARIABLE, "second-run")
    told = retrained(world).results
    assert told["champion"]["weights"]
    assert told["search"]["earlier"] == 1, "of two earlier trials the better one is tried anew, the other counts"
    assert set(told["train"]["starts"]) == {"champion", "scratch"}
    assert told["conclude"]["ended"] == "released"
    holder = Registry(world.tracking_uri).champion(MODEL)
    assert holder is not None
    assert (holder.version, holder.digest) == ("2", told["register"]["digest"])
    assert Registry(world.tracking_uri).show(MODEL, Alias.PREVIOUS).digest == told["champion"]["digest"]
    check_pages(world, told)
    check_runs(world, told)


def check_pages(world: World, told: dict[str, dict[str, Any]]) -> None:
    """Check that what is said to lie in the store does."""
    store = open_store(world.store)
    for page in (told["promote"]["report"], told["promote"]["evidence"], told["screen"]["page"]):
        assert b"<html" in store.read(page.removeprefix(f"{store.uri}/"))
    assert store.stat(f"evidence/{MODEL}-2.json"), "the pack's data lie beside its page"


def check_runs(world: World, told: dict[str, dict[str, Any]]) -> None:
    """Check that what the steps tracked lies in one run."""
    client = tracking.client(world.tracking_uri)
    parent = tracking.named_parent(world.tracking_uri, "second-run")
    experiment = [client.get_run(parent).info.experiment_id]
    nested = client.search_runs(experiment, f"tags.`mlflow.parentRunId` = '{parent}'")
    assert [run.data.tags["kind"] for run in nested].count("training") == 2, "the fits from both starts"
    assert Registry(world.tracking_uri).show(MODEL, "2").run_id == parent
