"""The compiled training pipeline with every step in a container, from images in S3 to a model that an endpoint serves.

The run ends at the gate, which asks for a person: an endpoint of this machine would end with the container of the step
that starts it, and one on a cluster is not there. The person's approval and the endpoint follow here.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components import tracking
from components.bundle import read_any_bundle
from components.datasets import steps as data_steps
from components.deployment.check import ask_known
from components.endpoint.files import WantedModel
from components.endpoint.releases import publish
from components.registry.steps import approve
from components.registry.versions import Registry
from components.settings import Settings, load_settings
from components.storage import open_store
from pipelines.cli.run import merge
from tests.containers import Docker
from tests.services import wait_until

from .conftest import Done
from .contained import STORE, Contained, Ended, contained
from .retraining import MODEL, SETTINGS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(580)]

CHANGES = {
    "store": STORE,
    "training": {"backbone": "cover_net", "weights": "auto", "image_size": 128},
    "gate": {"policy": "approval"},
}
STEPS = ("snapshot", "validate", "split", "search", "train", "evaluate", "register", "promote", "end")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(**merge(SETTINGS, CHANGES))


@pytest.fixture(scope="module")
def cultures(tmp_path_factory: pytest.TempPathFactory, mscflow: Callable[..., Done]) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    assert mscflow("data", "simulate", "cultures", "--images", 60, "--size", 128, cwd=folder).code == 0
    return folder / "cultures"


@pytest.fixture(scope="module")
def world(docker: Docker, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contained]:
    with contained(docker, images, tmp_path_factory.mktemp("contained")) as made:
        yield made


@pytest.fixture(scope="module")
def run(world: Contained, settings: Settings, cultures: Path) -> Ended:
    """One run, which every test looks at."""
    ended = world.run(settings, world.put(cultures, "cultures"))
    assert ended.code == 0, ended.log[-6000:]
    return ended


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_every_step_up_to_the_gate_says_what_it_did(run: Ended):
    assert set(run.results) == set(STEPS)
    assert run.results["snapshot"]["images"] == 60
    assert run.results["search"]["trials"] == 2
    assert run.results["train"]["epochs"] == 2
    assert run.results["promote"]["awaits_approval"]
    assert not run.results["promote"]["passed"]
    assert run.results["end"]["state"] == "SUCCEEDED"


def test_data_version_and_split_are_those_of_a_run_on_this_machine(
    run: Ended, cultures: Path, settings: Settings, tmp_path: Path, home: Path
):
    store = str(tmp_path / "store")
    taken = data_steps.snapshot(str(cultures), store, settings.data, settings.modality, home)
    fit = data_steps.validate(store, taken["data_version"], settings.data, home)
    divided = data_steps.split(store, fit["data_version"], taken["ref"], settings.split, None)
    assert run.results["validate"]["data_version"] == fit["data_version"]
    assert run.results["split"]["split_id"] == divided["split_id"]
    assert run.results["split"]["counts"] == divided["counts"]


def test_the_registered_version_is_what_was_evaluated(run: Ended, world: Contained, home: Path):
    registry = Registry(world.mlflow)
    version = registry.show(MODEL, run.results["register"]["version"])
    assert version.digest == run.results["register"]["digest"]
    folder = registry.download(MODEL, version.version, home / "models")
    bundle, _ = read_any_bundle(folder, version.digest)
    told = run.results["evaluate"]
    assert (bundle.data_version, bundle.split_id) == (
        run.results["validate"]["data_version"],
        run.results["split"]["split_id"],
    )
    assert bundle.metrics["accuracy"] == version.accuracy == pytest.approx(told["accuracy"])
    # Weights that were taught on simulations know simulated cultures.
    assert told["accuracy"] > told["majority_accuracy"]
    assert told["within_one_class"] >= 0.9


def test_all_that_was_tracked_lies_in_one_run_that_has_ended(run: Ended, world: Contained):
    client = tracking.client(world.mlflow)
    parent = client.get_run(tracking.named_parent(world.mlflow, run.name))
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["test/accuracy"] == pytest.approx(run.results["evaluate"]["accuracy"])
    nested = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    kinds = sorted(each.data.tags["kind"] for each in nested)
    assert kinds.count("trial") == 2
    assert kinds.count("training") == 1
    assert all(each.info.status == "FINISHED" for each in nested)


def test_the_report_is_found_in_the_store(run: Ended):
    store = open_store(STORE)
    page = store.read(run.results["promote"]["report"].removeprefix(f"{STORE}/"))
    assert run.results["register"]["digest"][:12].encode() in page


def test_once_approved_it_is_served_from_a_container_and_gives_its_known_answer(
    run: Ended, world: Contained, home: Path
):
    number = run.results["register"]["version"]
    champion = approve(MODEL, number, STORE, world.mlflow, home, reason="the evidence is sound", by="operator-1")
    assert "champion" in champion["aliases"]
    folder = Registry(world.mlflow).download(MODEL, "champion", home / "models")
    wanted = WantedModel(str(folder), number, champion["digest"])
    release = publish(open_store(STORE), {MODEL: wanted}).uri
    command = ["python", "-m", "serving", "--release", release, "--host", "0.0.0.0"]  # noqa: S104
    endpoint = world.docker.start(world.images["predict"], *command, network=world.network, environment=world.s3.inside)
    url = f"http://{endpoint.address(world.network)}:8080"
    wait_until(endpoint, f"{url}/v2/health/ready")
    prediction = ask_known(url, MODEL, folder, champion["digest"])
    assert prediction.data_version == run.results["validate"]["data_version"]


def test_a_step_that_fails_fails_the_run_and_its_own_sentence_is_kept(world: Contained, settings: Settings):
    ended = world.run(settings, "s3://mscflow/nothing")
    assert ended.code != 0
    assert set(ended.results) == {"end"}
    assert ended.results["end"]["state"] == "FAILED"
    assert "step 'snapshot': s3://mscflow/nothing" in ended.results["end"]["reason"]
    parent = tracking.client(world.mlflow).get_run(tracking.named_parent(world.mlflow, ended.name))
    assert parent.info.status == "FAILED"
