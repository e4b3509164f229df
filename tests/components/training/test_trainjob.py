"""A training's TrainJob on a real API server, whose controller the test plays; see `make test-cluster`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from components.apiserver import ApiServer
from components.culture import Modality
from components.ending.trainings import clear_trainings
from components.errors import ClusterError, ClusterUnavailable, TrainingError
from components.events import observed
from components.patience import RUN_VARIABLE
from components.settings import TrainingSettings
from components.storage import open_store
from components.trainer import Launching
from components.training.job import Job, write_job
from components.training.launch import forget, launch
from components.training.steps import run
from components.training.stored import StoredTraining
from components.training.trainjob import MANAGER, RUN, SPEC, name_of, trainjob
from tests.components.training.conductor import Conductor, expire, fail, train, until, vanish, wait

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("tiny_backbone")]


@pytest.fixture
def namespace(crd_server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A namespace of its own in the API server that this process then asks."""
    monkeypatch.setenv("KUBECONFIG", str(crd_server.kubeconfig))
    return f"d-{uuid4().hex}"


@pytest.fixture
def job(cultures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A small training, of which nothing is left in the store."""
    monkeypatch.setenv("MSCFLOW_HOME", str(tmp_path / "pod"))
    settings = TrainingSettings(backbone="tiny", image_size=32, epochs=2, batch_size=8, seed=uuid4().int % 2**31)
    made = Job(
        store_uri=cultures.store,
        split_id=cultures.split_id,
        modality=Modality.SINGLE_STACK,
        learning_rate=3e-3,
        settings=settings,
        output=tmp_path / "out",
        home=tmp_path / "home",
    )
    yield made
    forget(made)


def launching(namespace: str, **changes: Any) -> Launching:
    given = {"launcher": "trainjob", "interval": 0.05, "backoff": 1, "start_timeout": 60, "namespace": namespace}
    return Launching(**{**given, **changes})


def id_of(job: Job) -> str:
    return job.fingerprint(job.first_weights())


def left(job: Job) -> list[str]:
    """Name what the store still holds of a training."""
    return [each.key for each in open_store(job.store_uri).list(f"trainings/{id_of(job)}/")]


def test_it_ends_as_one_in_the_step_does_and_leaves_nothing_behind(crd_server, namespace, job, tmp_path: Path) -> None:
    here = job.model_copy(update={"output": tmp_path / "here"})
    expected = run(here)
    with Conductor(crd_server, namespace, [train]) as conductor:
        result = run(job, launching(namespace))
        assert conductor.jobs() == []
    assert result == expected
    both = [json.loads((each.output / "training.json").read_bytes())["state_sha256"] for each in (here, job)]
    assert both[0] == both[1]
    assert left(job) == []
    (made,) = conductor.seen
    assert made["metadata"]["name"] == name_of(id_of(job))


def test_what_is_kept_is_not_trained_again(crd_server, namespace, job) -> None:
    kept = job.model_copy(update={"keep": True})
    with Conductor(crd_server, namespace, [train]) as conductor:
        launch(kept, launching(namespace))
        launch(kept, launching(namespace))
    assert len(conductor.seen) == 1
    forget(kept)
    assert left(job) == []


def test_it_is_made_as_the_settings_say_with_secrets_by_reference_alone(crd_server, namespace, job) -> None:
    settings = launching(namespace, workers=2, gpus=4, cpu="8", memory="32Gi", nodes={"pool": "gpu"}, image="train:1")
    with Conductor(crd_server, namespace, [train]) as conductor:
        launch(job, settings)
    spec = conductor.seen[0]["spec"]
    trainer, (patch,) = spec["trainer"], spec["runtimePatches"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (2, 4, "train:1")
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "4"}
    (of_nodes,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = of_nodes["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "gpu"}
    mounted = {each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounted == {"/tmp", "/dev/shm"}  # noqa: S108
    secret = {each["name"]: each["valueFrom"] for each in trainer["env"] if "secretKeyRef" in each.get("valueFrom", {})}
    assert secret["AWS_SECRET_ACCESS_KEY"]["secretKeyRef"]["name"] == "mscflow-s3"
    assert not any("value" in each for each in trainer["env"] if each["name"] in secret)


def test_one_that_fails_is_followed_by_another(crd_server, namespace, job) -> None:
    told: list[Any] = []
    with Conductor(crd_server, namespace, [fail, train]) as conductor, observed(told.append):
        launch(job, launching(namespace))
    assert len({each["metadata"]["uid"] for each in conductor.seen}) == 2
    assert any("JobsFailed: jobset failed" in event.get("message", "") for event in told)
    assert (job.output / "model.onnx").is_file()


def test_one_that_fails_time_and_again_is_given_up(crd_server, namespace, job) -> None:
    with Conductor(crd_server, namespace, [fail]) as conductor:
        with pytest.raises(TrainingError, match="failed 2 times, at last as JobsFailed"):
            launch(job, launching(namespace, retries=1))
        assert conductor.jobs() == []
    assert len(conductor.seen) == 2
    assert left(job), "the training stays, to be gone on with"


def test_a_training_that_cannot_succeed_is_not_tried_again(crd_server, namespace, job) -> None:
    hopeless = job.model_copy(update={"split_id": "0" * 64})
    with Conductor(crd_server, namespace, [train]) as conductor, pytest.raises(Exception) as raised:
        launch(hopeless, launching(namespace))
    assert type(raised.value).__name__ == "DataError"
    assert "0" * 64 in str(raised.value)
    assert len(conductor.seen) == 1
    forget(hopeless)


def test_one_that_takes_too_long_is_not_tried_again(crd_server, namespace, job) -> None:
    with Conductor(crd_server, namespace, [expire]) as conductor:
        with pytest.raises(TrainingError, match=r"longer than cluster.train_timeout, 7 s"):
            launch(job, launching(namespace, train_timeout=7))
        until(lambda: conductor.jobs() == [])
    assert conductor.seen[0]["spec"]["activeDeadlineSeconds"] == 7
    assert len(conductor.seen) == 1


def test_one_that_takes_longer_than_the_step_itself_may_is_ended_by_the_step(crd_server, namespace, job) -> None:
    def linger(conductor: Conductor, made: Any) -> None:
        conductor.count(made, active=1, ready=1)

    with Conductor(crd_server, namespace, [linger]) as conductor:
        with pytest.raises(TrainingError, match=r"longer than cluster.train_timeout, 3 s"):
            launch(job, launching(namespace, train_timeout=3))
        until(lambda: conductor.jobs() == [])
    assert len(conductor.seen) == 1


def test_one_that_finds_no_place_is_given_up(crd_server, namespace, job) -> None:
    with Conductor(crd_server, namespace, [wait]) as conductor:
        with pytest.raises(TrainingError, match=r"no pod ready within trainer.start_timeout, 1 s"):
            launch(job, launching(namespace, start_timeout=1))
        until(lambda: conductor.jobs() == [])


def test_one_that_waits_in_a_queue_says_so(crd_server, namespace, job) -> None:
    def suspend(conductor: Conductor, made: Any) -> None:
        conductor.tell(made, "Suspended", "Suspended", "no quota for 8 GPUs")

    with Conductor(crd_server, namespace, [suspend]), pytest.raises(TrainingError, match="no quota for 8 GPUs"):
        launch(job, launching(namespace, start_timeout=1))


def test_one_that_somebody_deletes_is_made_again(crd_server, namespace, job) -> None:
    told: list[Any] = []
    with Conductor(crd_server, namespace, [vanish, train]) as conductor, observed(told.append):
        launch(job, launching(namespace))
    assert len(conductor.seen) == 2
    assert any("somebody deleted it" in event.get("message", "") for event in told)


def test_one_that_completes_without_a_result_is_no_success(crd_server, namespace, job) -> None:
    def pretend(conductor: Conductor, made: Any) -> None:
        conductor.tell(made, "Complete", "JobsCompleted")

    with Conductor(crd_server, namespace, [pretend]), pytest.raises(TrainingError, match="completed without a result"):
        launch(job, launching(namespace, retries=0))


def test_one_that_a_killed_step_left_is_gone_on_with(crd_server, namespace, job) -> None:
    settings = launching(namespace)
    stored = StoredTraining.put(job)
    with Conductor(crd_server, namespace, [train]) as conductor:
        conductor.create(trainjob(stored.id, stored.uri, 1, settings))
        until(lambda: conductor.seen)
        launch(job, settings)
    assert len(conductor.seen) == 1


def test_one_that_an_earlier_step_made_otherwise_is_replaced(crd_server, namespace, job) -> None:
    stored = StoredTraining.put(job)
    with Conductor(crd_server, namespace, [wait, train]) as conductor:
        conductor.create(trainjob(stored.id, stored.uri, 1, launching(namespace, memory="64Gi")))
        until(lambda: conductor.seen)
        launch(job, launching(namespace))
    assert [each["spec"]["trainer"]["resourcesPerNode"]["limits"]["memory"] for each in conductor.seen] == [
        "64Gi",
        "16Gi",
    ]


def test_what_differs_from_run_to_run_makes_no_other_trainjob(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for run_of in ("run-1", "run-2"):
        monkeypatch.setenv(RUN_VARIABLE, run_of)
        digests.add(trainjob("0" * 16, "s3://b/job.json", 1, launching(namespace))["metadata"]["annotations"][SPEC])
    assert len(digests) == 1


@pytest.mark.parametrize("memory", ["16Gi", "64Gi"])
def test_one_that_another_run_follows_is_waited_for_and_left_to_it(
    crd_server, namespace, job, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    stored, told = StoredTraining.put(job), list[Any]()
    monkeypatch.setenv(RUN_VARIABLE, "run-1")
    theirs = trainjob(stored.id, stored.uri, 1, launching(namespace, memory=memory))
    monkeypatch.setenv(RUN_VARIABLE, "run-2")
    with Conductor(crd_server, namespace, [train]) as conductor, observed(told.append):
        conductor.create(theirs)
        launch(job, launching(namespace))
        (kept,) = conductor.jobs()
    assert "deletionTimestamp" not in kept["metadata"]
    assert len(conductor.seen) == 1
    assert any("for run run-1; it is waited for" in event.get("message", "") for event in told)
    assert (job.output / "model.onnx").is_file()


def test_one_that_another_run_takes_away_is_followed_by_ones_own(
    crd_server, namespace, job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(conductor: Conductor, made: Any) -> None:
        # As that run does when it has fetched the result.
        until(lambda: any("it is waited for" in event.get("message", "") for event in told))
        stored.remove()
        vanish(conductor, made)

    stored, told = StoredTraining.put(job), list[Any]()
    monkeypatch.setenv(RUN_VARIABLE, "run-1")
    theirs = trainjob(stored.id, stored.uri, 1, launching(namespace))
    monkeypatch.setenv(RUN_VARIABLE, "run-2")
    with Conductor(crd_server, namespace, [taken, train]) as conductor, observed(told.append):
        conductor.create(theirs)
        launch(job, launching(namespace))
        assert conductor.jobs() == []
    assert [each["metadata"]["labels"][RUN] for each in conductor.seen] == ["run-1", "run-2"]
    assert (job.output / "model.onnx").is_file()


def test_one_of_somebody_else_is_left_alone(crd_server, namespace, job) -> None:
    stored = StoredTraining.put(job)
    theirs = trainjob(stored.id, stored.uri, 1, launching(namespace))
    theirs["metadata"]["labels"] = {MANAGER: "somebody"}
    with Conductor(crd_server, namespace, [wait]) as conductor:
        conductor.create(theirs)
        with pytest.raises(ClusterError, match="was not made by mscflow; delete it"):
            launch(job, launching(namespace))
        assert [each["metadata"]["labels"][MANAGER] for each in conductor.jobs()] == ["somebody"]


def test_a_cancelled_step_takes_its_trainjob_away(crd_server, namespace, job, tmp_path: Path) -> None:
    # The tiny backbone is not known to another process.
    settings = job.settings.model_copy(update={"backbone": "shufflenet_v2", "weights": "none"})
    write_job(job.model_copy(update={"settings": settings}), tmp_path / "job.json")
    (tmp_path / "launching.json").write_text(launching(namespace).model_dump_json())
    with Conductor(crd_server, namespace, [wait]) as conductor:
        step = subprocess.Popen([sys.executable, __file__, tmp_path], env={**os.environ, "PYTHONPATH": str(Path.cwd())})
        until(lambda: conductor.seen or step.poll() is not None)
        step.send_signal(signal.SIGTERM)
        assert step.wait(timeout=60) == 128 + signal.SIGTERM
        until(lambda: conductor.jobs() == [])


def test_the_end_of_a_run_takes_away_what_its_step_left(
    crd_server, namespace, job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "namespace").write_text(namespace)
    monkeypatch.setattr("components.apiserver._OWN_NAMESPACE", tmp_path / "namespace")
    with Conductor(crd_server, namespace, [wait]) as conductor:
        for number, run_of in enumerate(("run-1", "run-2")):
            monkeypatch.setenv(RUN_VARIABLE, run_of)
            conductor.create(trainjob(f"{number:016}", "s3://b/job.json", 1, launching(namespace)))
        assert clear_trainings() == [name_of(f"{1:016}")]
        until(lambda: [each["metadata"]["name"] for each in conductor.jobs()] == [name_of(f"{0:016}")])


def test_a_field_that_is_not_known_is_refused(crd_server, namespace, job) -> None:
    manifest = trainjob("0" * 16, "s3://b/job.json", 1, launching(namespace))
    manifest["spec"]["trainer"]["numNode"] = 2
    with pytest.raises(ClusterError, match="numNode"):
        ApiServer(namespace).create("trainjobs", manifest)


def test_a_kind_that_is_not_installed_is_told(crd_server, namespace) -> None:
    with pytest.raises(ClusterError, match="knows no such kind; install the controller"):
        ApiServer(namespace).find("trainjobs", "trainer.example.org/v1", "a=b")


def test_without_a_cluster_that_is_told(job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(ClusterUnavailable, match="set KUBECONFIG"):
        launch(job, launching("anywhere"))


def _cancelled(folder: Path) -> None:
    launch(
        Job.model_validate_json((folder / "job.json").read_bytes()),
        Launching.model_validate_json((folder / "launching.json").read_bytes()),
    )


if __name__ == "__main__":
    _cancelled(Path(sys.argv[1]))
