"""A TrainJob's real pods on the small cluster, one of which is lost; see `make test-cluster`."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.apiserver import connect
from components.culture import Modality
from components.datasets import steps as data_steps
from components.datasets.simulation.dataset import simulate
from components.events import emit, observed
from components.settings import DataSettings, SplitSettings, TrainingSettings
from components.trainer import Launching
from components.training.job import Job
from components.training.launch import launch
from tests.components.training.conductor import until
from tests.components.training.pods import Pods, installed, manifests
from tests.containers import Docker
from tests.kubernetes import SmallCluster
from tests.services import S3Service, start_s3

pytestmark = pytest.mark.cluster

BUCKET, EPOCHS, LOST_AFTER = "fits", 3, 1
TOLERANCE = 1e-3  # the last bits of a gradient hang on the order in which gloo sums


@pytest.fixture(scope="module")
def s3(docker: Docker, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Service]:
    """S3 in a container, where pods reach it, with this process's environment pointed to it."""
    service = start_s3(docker, images["train"], "bridge", tmp_path_factory.mktemp("s3"), BUCKET)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in service.outside.items():
            patch.setenv(name, value)
        yield service


@pytest.fixture(scope="module")
def job(s3: S3Service, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A short training of a pretrained backbone on simulated cultures that lie in S3."""
    folder, store = tmp_path_factory.mktemp("cultures"), f"s3://{BUCKET}/store"
    simulate(folder / "source", images=120, modality=Modality.SINGLE_STACK, size=(64, 64))
    settings = DataSettings(unlabelled=True)
    data = data_steps.snapshot(str(folder / "source"), store, settings, Modality.SINGLE_STACK, folder / "home")
    split = data_steps.split(store, data["data_version"], "cultures", SplitSettings())
    return Job(
        store_uri=store,
        split_id=split["split_id"],
        modality=Modality.SINGLE_STACK,
        learning_rate=1e-3,
        # What is dropped out hangs on the rank of a process, which may have another one afterwards.
        settings=TrainingSettings(image_size=64, epochs=EPOCHS, batch_size=16, micro_batch=4, dropout=0.0),
        output=folder / "out",
        home=folder / "home",
    )


@pytest.fixture
def pods(small_cluster: SmallCluster, s3: S3Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pods]:
    monkeypatch.setenv("KUBECONFIG", str(small_cluster.kubeconfig))
    variables = s3.inside | {"AWS_ENDPOINT_URL": s3.outside["AWS_ENDPOINT_URL"]}
    with installed(small_cluster), small_cluster.namespace() as namespace:
        small_cluster.apply(*manifests(variables), namespace=namespace)
        with Pods(connect(), namespace) as running:
            yield running


class Loss:
    """Takes the second pod away in the middle of an epoch."""

    def __init__(self, pods: Pods, after: float) -> None:
        self.pods, self.after, self.events = pods, after, list[dict[str, Any]]()
        self.at = self.back = 0.0

    def observe(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if event.get("task") != "train":
            return
        if event["done"] == LOST_AFTER and not self.at:
            self.at = time.monotonic()
            threading.Timer(self.after, self.pods.delete, [1]).start()
        if event["done"] == LOST_AFTER + 1 and not self.back:
            self.back = time.monotonic()


@pytest.mark.timeout(400)
def test_a_lost_pod_comes_back_and_the_metrics_are_those_of_an_undisturbed_run(
    pods: Pods, images: dict[str, str], job: Job, tmp_path: Path
) -> None:
    settings = Launching(
        launcher="trainjob",
        namespace=pods.namespace,
        workers=2,
        image=images["train"],
        cpu="1",
        memory="2Gi",
        interval=0.2,
        shared_memory="256Mi",
    )
    first = job.model_copy(update={"output": tmp_path / "undisturbed"})
    launch(first, settings)
    undisturbed = json.loads((first.output / "training.json").read_bytes())

    loss = Loss(pods, min(epoch["seconds"] for epoch in undisturbed["history"]) / 4)
    with observed(loss.observe):
        launch(job, settings)
    record = json.loads((job.output / "training.json").read_bytes())
    emit("note", message=f"{loss.back - loss.at:.1f} s from the last epoch before the loss to the first after it")

    assert record["processes"] == 2
    assert LOST_AFTER <= record["resumed_epochs"] < EPOCHS, "it went on from a checkpoint"
    for one, other in zip(undisturbed["history"], record["history"], strict=True):
        for name in ("train_loss", "validation_loss", "validation_accuracy"):
            assert other[name] == pytest.approx(one[name], rel=TOLERANCE), name
    assert not any("tried again" in event.get("message", "") for event in loss.events), "one TrainJob did it"
    assert pods.jobs() == []
    until(lambda: pods.names() == [])
