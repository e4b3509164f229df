"""A training in a store: any machine can do it, go on with it, and fetch what came of it."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch

from components.bundle import file_digest
from components.culture import Modality
from components.errors import IntegrityError, SettingsError, TrainingError
from components.models.classifier import build_classifier
from components.models.weights import Weights
from components.settings import TrainingSettings
from components.training import worker
from components.training.__main__ import main
from components.training.checkpoint import StoredCheckpoint
from components.training.job import Job
from components.training.stored import StoredTraining

pytestmark = pytest.mark.usefixtures("tiny_backbone")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of the machine that trains, which is not that of the one that asks for it."""
    monkeypatch.setenv("MSCFLOW_HOME", str(tmp_path / "there"))
    return tmp_path


def make_job(cultures, folder: Path, **changes: Any) -> Job:
    # A seed of its own for each test, as the store is shared.
    given = {"seed": uuid4().int % 2**31, **changes.pop("settings", {})}
    settings = {"backbone": "tiny", "image_size": 32, "epochs": 2, "batch_size": 8, **given}
    fields = {"modality": Modality.SINGLE_STACK, "learning_rate": 3e-3, "settings": TrainingSettings(**settings)}
    places = {"store_uri": cultures.store, "split_id": cultures.split_id}
    return Job(**{**places, **fields, "output": folder / "out", "home": folder / "home", **changes})


def test_what_another_machine_made_is_fetched_and_nothing_stays(cultures, here: Path) -> None:
    job = make_job(cultures, here)
    training = StoredTraining.put(job)
    assert not training.finished
    assert not training.fetch_result(here / "fetched")
    assert main(["--job", training.uri]) == 0
    assert training.finished
    assert training.fetch_result(here / "fetched")
    assert sorted(path.name for path in (here / "fetched").iterdir()) == [
        "model.onnx",
        "training.json",
        "weights.safetensors",
    ]
    record = json.loads((here / "fetched" / "training.json").read_bytes())
    assert [epoch["epoch"] for epoch in record["history"]] == [1, 2]
    assert not list((here / "there" / "trainings").iterdir()), "the machine that trained keeps none of it"
    assert not [info for info in training.store.list(training.prefix) if "checkpoint" in info.key]
    training.remove()
    assert list(training.store.list(training.prefix)) == []


def test_a_finished_training_is_not_done_again(cultures, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = StoredTraining.put(make_job(cultures, here))
    assert main(["--job", training.uri]) == 0
    monkeypatch.setattr(worker, "build_classifier", None)  # would be called
    assert main(["--job", training.uri]) == 0
    training.remove()


def test_another_machine_goes_on_from_the_checkpoint_and_ends_in_the_same_weights(cultures, here: Path) -> None:
    job = make_job(cultures, here, settings={"epochs": 3})
    undisturbed = StoredTraining.put(job)
    assert main(["--job", undisturbed.uri]) == 0
    undisturbed.fetch_result(here / "undisturbed")
    undisturbed.remove()

    training = StoredTraining.put(job)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        worker.work(training.job(here / "first machine"), stop, training)
    other = training.job(here / "another machine")
    worker.work(other, training=training)
    training.fetch_result(here / "disturbed")
    one, two = (json.loads((here / name / "training.json").read_bytes()) for name in ("undisturbed", "disturbed"))
    assert (one["resumed_epochs"], two["resumed_epochs"]) == (0, 1)
    assert two["state_sha256"] == one["state_sha256"]
    training.remove()


def test_one_division_of_the_work_goes_on_where_another_stopped(cultures, here: Path) -> None:
    job, seed = make_job(cultures, here, settings={"seed": 5}), {"seed": 5}
    divided = make_job(cultures, here, settings=seed | {"processes": 4, "micro_batch": 2})
    other = make_job(cultures, here, settings=seed | {"batch_size": 4})
    weights = job.first_weights()
    assert job.fingerprint(weights) == divided.fingerprint(weights) != other.fingerprint(weights)


def test_first_weights_travel_with_the_job(cultures, here: Path) -> None:
    path = here / "own.pth"
    torch.save(build_classifier("tiny", 0.5, Weights("none"), 3).features.state_dict(), path)
    digest = file_digest(path)
    training = StoredTraining.put(make_job(cultures, here, settings={"weights": str(path)}))
    path.unlink()
    found = training.job(here / "there").first_weights()
    assert (found.sha256, found.source) == (digest, "file own.pth")
    assert found.path is not None
    assert file_digest(found.path) == digest
    found.path.write_bytes(b"damaged")
    again = training.job(here / "there").first_weights()
    assert again.path is not None
    assert file_digest(again.path) == digest, "what was damaged on this machine is fetched again"
    assert main(["--job", training.uri]) == 0
    training.store.write(f"{training.prefix}weights.pth", b"other weights")
    with pytest.raises(IntegrityError, match=digest):
        training.job(here / "elsewhere").first_weights()
    training.remove()


def test_why_a_job_cannot_be_done_is_told_to_whoever_asked_and_forgotten_with_the_next_try(
    cultures, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(cultures, here, learning_rate=1e30)
    training = StoredTraining.put(job)
    assert main(["--job", training.uri]) == TrainingError.exit_code
    assert "diverged" in capsys.readouterr().err
    failure = training.failure
    assert isinstance(failure, TrainingError)
    assert "1e+30" in str(failure)
    assert StoredTraining.put(job).failure is None
    training.remove()


def test_a_store_that_is_away_is_no_failure_of_the_job(cultures, here: Path, s3_server, s3_uri: str) -> None:
    training = StoredTraining.put(make_job(cultures, here))
    moved = training.job(here / "there").model_copy(update={"store_uri": "s3://no-such-bucket"})
    training.store.write(f"{training.prefix}job.json", moved.model_dump_json().encode())
    assert main(["--job", training.uri]) == 2
    assert training.failure is None
    training.remove()


def test_an_outcome_that_was_altered_is_refused(cultures, here: Path) -> None:
    training = StoredTraining.put(make_job(cultures, here))
    (here / "made").mkdir()
    (here / "made" / "model.onnx").write_bytes(b"network")
    training.put_result(here / "made")
    training.store.write(f"{training.prefix}result/model.onnx", b"another network")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        training.fetch_result(here / "fetched")
    assert not list((here / "fetched").iterdir())
    training.store.write(f"{training.prefix}result.json", b'{"../model.onnx": "0"}')
    with pytest.raises(IntegrityError, match=r"'\.\./model.onnx'"):
        training.fetch_result(here / "fetched")
    training.remove()


@pytest.mark.parametrize("uri", ["s3://bucket/job.json", "file:///store/trainings/12/job.json", "file:///trainings/a"])
def test_a_uri_of_no_training_is_named(uri: str) -> None:
    with pytest.raises(SettingsError, match=uri):
        StoredTraining.at(uri)


def test_a_training_that_was_removed_is_named(cultures, here: Path) -> None:
    training = StoredTraining.put(make_job(cultures, here))
    training.remove()
    with pytest.raises(SettingsError, match=f"{training.id}/job.json' does not exist"):
        StoredTraining.at(training.uri).job(here)


def test_a_tracking_database_of_this_machine_does_not_travel(cultures, here: Path) -> None:
    for uri, sent in (("sqlite:////mlflow.db", None), ("http://mlflow:5000", "http://mlflow:5000")):
        training = StoredTraining.put(make_job(cultures, here, mlflow_uri=uri))
        assert training.job(here).mlflow_uri == sent
        training.remove()


def test_it_lies_in_s3(cultures, here: Path, s3_uri: str) -> None:
    training = StoredTraining.put(make_job(cultures, here, store_uri=s3_uri))
    assert training.uri == f"{s3_uri}/trainings/{training.id}/job.json"
    there = StoredTraining.at(training.uri)
    checkpoint = StoredCheckpoint(there.store, there.checkpoint_key(there.job(here), Weights("none")))
    state = {"model": {"a": torch.rand(3_000_000)}}
    checkpoint.save(state)
    loaded = checkpoint.load()
    assert loaded is not None
    assert torch.equal(loaded["model"]["a"], state["model"]["a"])
    there.remove()
    assert list(training.store.list("trainings/")) == []
