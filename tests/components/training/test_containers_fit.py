"""Two containers train together and one is killed; see `make test-cluster`."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.culture import Modality
from components.datasets import steps as data_steps
from components.datasets.simulation.dataset import simulate
from components.events import emit
from components.settings import DataSettings, SplitSettings, TrainingSettings
from components.training.job import Job
from components.training.stored import StoredTraining
from components.training.torchrun import REJOINING
from tests.containers import Container, Docker
from tests.services import S3Service, start_s3

pytestmark = pytest.mark.cluster

BUCKET, EPOCHS, KILLED_AFTER = "fits", 3, 1
# Gloo sums in the order in which messages come, so that the last bits of a gradient may differ.
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def network(docker: Docker) -> str:
    return docker.network()


@pytest.fixture(scope="module")
def s3(
    docker: Docker, images: dict[str, str], network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Service]:
    """S3 in a container, with this process's environment pointed to it."""
    service = start_s3(docker, images["train"], network, tmp_path_factory.mktemp("s3"), BUCKET)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in service.outside.items():
            patch.setenv(name, value)
        yield service


@pytest.fixture(scope="module")
def job(s3: S3Service, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A short training of a pretrained backbone on simulated cultures that lie in S3."""
    folder, store = tmp_path_factory.mktemp("cultures"), f"s3://{BUCKET}/store"
    simulate(folder / "source", images=140, modality=Modality.SINGLE_STACK, size=(64, 64))
    settings = DataSettings(unlabelled=True)
    data = data_steps.snapshot(str(folder / "source"), store, settings, Modality.SINGLE_STACK, folder / "home")
    split = data_steps.split(store, data["data_version"], "cultures", SplitSettings())
    return Job(
        store_uri=store,
        split_id=split["split_id"],
        modality=Modality.SINGLE_STACK,
        learning_rate=1e-3,
        settings=TrainingSettings(image_size=64, epochs=EPOCHS, batch_size=16, micro_batch=4),
        output=folder / "out",
        home=folder / "home",
    )


class Pair:
    """Two containers that share a training, each with one process; the first is where they meet."""

    def __init__(self, docker: Docker, image: str, network: str, s3: S3Service, training: StoredTraining) -> None:
        self.docker = docker
        command = ["python", "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=3"]
        command += ["--rdzv-backend=c10d", f"--rdzv-endpoint=first-{training.id}:29400", f"--rdzv-id={training.id}"]
        command += ["--module", "components.training", f"--job={training.uri}"]
        own = {"HOME": "/tmp", "MSCFLOW_HOME": "/tmp/mscflow", "GOMP_SPINCOUNT": "1000"}  # noqa: S108
        self.first, self.second = (
            docker.start(
                image,
                *command,
                network=network,
                alias=f"{place}-{training.id}",
                environment=s3.inside | own | REJOINING,
                options=["--cpus=1", f"--hostname={place}-{training.id}"],
            )
            for place in ("first", "second")
        )

    def await_epoch(self, number: int) -> None:
        """Wait until an epoch is over and its checkpoint saved."""
        deadline, word = time.monotonic() + 300, f"task=train done={number} "
        while word not in self.first.logs() + self.second.logs():
            assert time.monotonic() < deadline, self.first.logs() + self.second.logs()
            time.sleep(0.05)

    def start_again(self, container: Container) -> None:
        self.docker("start", container.name)

    def await_end(self) -> None:
        for container in (self.first, self.second):
            assert container.wait(timeout=300) == 0, container.logs()

    def remove(self) -> None:
        self.first.remove()
        self.second.remove()


def record_of(training: StoredTraining, folder: Path) -> dict[str, Any]:
    assert training.fetch_result(folder)
    record: dict[str, Any] = json.loads((folder / "training.json").read_bytes())
    return record


@pytest.mark.timeout(900)
def test_one_of_two_containers_is_killed_and_the_metrics_are_those_of_an_undisturbed_run(
    docker: Docker, images: dict[str, str], network: str, s3: S3Service, job: Job, tmp_path: Path
) -> None:
    training = StoredTraining.put(job)
    pair = Pair(docker, images["train"], network, s3, training)
    pair.await_end()
    undisturbed = record_of(training, tmp_path / "undisturbed")
    pair.remove()
    training.remove()

    training = StoredTraining.put(job)
    pair = Pair(docker, images["train"], network, s3, training)
    pair.await_epoch(KILLED_AFTER)
    saved = time.monotonic()
    time.sleep(undisturbed["history"][KILLED_AFTER]["seconds"] / 2)
    pair.second.kill("KILL")
    killed = time.monotonic()
    assert f"task=train done={KILLED_AFTER + 1} " not in pair.first.logs() + pair.second.logs(), "else in no mid-epoch"
    pair.start_again(pair.second)
    pair.await_epoch(KILLED_AFTER + 1)
    lost, back = killed - saved, time.monotonic() - killed
    emit("note", message=f"{lost:.1f} s of work lost; {back:.1f} s from the kill to the end of the epoch done again")
    pair.await_end()
    disturbed = record_of(training, tmp_path / "disturbed")
    assert "another process of this training is gone" in pair.first.logs()
    assert "Traceback" not in pair.first.logs() + pair.second.logs()

    assert (disturbed["processes"], disturbed["resumed_epochs"]) == (2, KILLED_AFTER)
    for one, other in zip(undisturbed["history"], disturbed["history"], strict=True):
        for name in ("train_loss", "validation_loss", "validation_accuracy"):
            assert other[name] == pytest.approx(one[name], rel=TOLERANCE), name
    left = [info.key for info in training.store.list(training.prefix) if "checkpoint" in info.key]
    assert left == [], "a finished training needs no checkpoint"
