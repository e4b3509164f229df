import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
import torch

from components.culture import Modality
from components.errors import DataError, SettingsError, TrainingError
from components.evaluation.inputs import read_training
from components.imaging import Preprocessing, normalise
from components.models.classifier import build_classifier
from components.models.weights import find_weights, input_of
from components.settings import GEOMETRIC, TrainingSettings
from components.tracking import client
from components.training.__main__ import main
from components.training.data import load_data
from components.training.fit import Fit
from components.training.job import Job, read_job, write_job
from components.training.ranks import Ranks
from components.training.steps import train


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**{"backbone": "tiny", "image_size": 32, "epochs": 3, "batch_size": 8, **changes})


def run(cultures, output: Path, home: Path, *, rate: float = 3e-3, uri: str | None = None, **changes: Any) -> Any:
    modality = Modality.SINGLE_STACK
    return train(cultures.store, cultures.split_id, rate, settings(**changes), output, home, modality, uri)


def record(output: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((output / "training.json").read_bytes())
    return told


@pytest.mark.usefixtures("tiny_backbone")
class TestInOneProcess:
    def test_it_leaves_a_model_and_its_history(self, cultures, tmp_path: Path) -> None:
        result = run(cultures, tmp_path / "out", tmp_path / "home")
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "model.onnx",
            "training.json",
            "weights.safetensors",
        ]
        told = record(tmp_path / "out")
        assert [epoch["epoch"] for epoch in told["history"]] == [1, 2, 3]
        best = min(told["history"], key=lambda epoch: epoch["validation_loss"])
        assert (told["best_epoch"], result["validation_loss"]) == (best["epoch"], best["validation_loss"])
        assert told["images"]["train"] == {"1": 6, "2": 6, "3": 6, "4": 6}
        assert told["weights"] == {
            "source": "none",
            "sha256": None,
            "note": "no pretrained weights of tiny are at hand",
        }
        assert told["settings"]["augmentations"] == list(GEOMETRIC), "what was done, not that nothing was said"
        assert result["onnx_max_abs_difference"] < 1e-4
        assert not list((tmp_path / "home").rglob("checkpoint.pt*")), "a finished fit needs no checkpoint"
        read = read_training(tmp_path / "out")
        assert (read.backbone, read.prepare, read.best_epoch) == (
            "tiny",
            Preprocessing(size=32, planes="texture"),
            best["epoch"],
        )

    def test_the_model_takes_images_as_serving_prepares_them(self, cultures, tmp_path: Path) -> None:
        run(cultures, tmp_path / "out", tmp_path / "home", rate=1e-2, epochs=10, planes="rgb")
        images = np.stack([np.full((32, 32, 3), level, np.uint8) for level in (60, 180)])
        session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
        logits = session.run(None, {"images": normalise(images, read_training(tmp_path / "out").prepare)})[0]
        empty, full = logits.argmax(axis=1)
        assert empty < full

    @pytest.mark.parametrize("method", ["equalise", "clahe"])
    def test_the_model_remembers_how_its_images_were_equalised(self, method: str, cultures, tmp_path: Path) -> None:
        run(cultures, tmp_path / "out", tmp_path / "home", epochs=1, equalisation=method, planes="rgb")
        assert read_training(tmp_path / "out").prepare == Preprocessing(size=32, equalisation=method)

    def test_a_fixed_rate_goes_before_that_of_the_search(self, cultures, tmp_path: Path) -> None:
        result = run(cultures, tmp_path / "out", tmp_path / "home", rate=1e-7, learning_rate=1e-3, epochs=1)
        assert result["learning_rate"] == 1e-3

    def test_each_epoch_is_tracked(self, cultures, tmp_path: Path, sqlite_uri: str) -> None:
        run(cultures, tmp_path / "out", tmp_path / "home", uri=sqlite_uri)
        (found,) = client(sqlite_uri).search_runs(["1"])
        assert found.data.tags["kind"] == "training"
        assert found.data.params["backbone"] == "tiny"
        history = client(sqlite_uri).get_metric_history(found.info.run_id, "validation_loss")
        assert [(each.step, each.value) for each in history] == [
            (epoch["epoch"], epoch["validation_loss"]) for epoch in record(tmp_path / "out")["history"]
        ]

    def test_divergence_is_an_error_and_leaves_no_model(self, cultures, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match=r"1e\+30"):
            run(cultures, tmp_path / "out", tmp_path / "home", rate=1e30)
        assert not (tmp_path / "out").exists()

    def test_an_unknown_split_is_refused(self, cultures, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="f" * 64):
            train(
                cultures.store,
                "f" * 64,
                1e-3,
                settings(),
                tmp_path / "out",
                tmp_path / "home",
                Modality.SINGLE_STACK,
            )


def write_small_job(cultures, folder: Path, home: Path, **changes: Any) -> Path:
    job = Job(
        store_uri=cultures.store,
        split_id=cultures.split_id,
        modality=Modality.SINGLE_STACK,
        learning_rate=1e-3,
        settings=settings(**changes),
        output=folder / "out",
        home=home,
    )
    write_job(job, folder / "job.json")
    return folder / "job.json"


# The entry point of `python -m components.training`, where the tiny backbone of these tests is registered too.
ENTRY = """
import sys
from torch import nn
from components.models.backbones import BACKBONES, Backbone
from components.training.__main__ import main

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU())

BACKBONES["tiny"] = Backbone(build, channels=16)
sys.exit(main())
"""


def start(job: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ENTRY, "--job", str(job)]
    return subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_backbone")
def test_killed_in_mid_epoch_and_started_again_it_ends_in_the_same_weights(cultures, tmp_path: Path) -> None:
    """Equal weights, bit for bit, whenever SIGKILL strikes."""
    long = {"epochs": 20, "patience": 20}
    run(cultures, tmp_path / "undisturbed", tmp_path / "home", rate=1e-3, **long)
    job = write_small_job(cultures, tmp_path, tmp_path / "disturbed_home", **long)
    checkpoints = tmp_path / "disturbed_home" / "checkpoints"
    for _ in range(2):
        process = start(job)
        before = newest(checkpoints)
        while newest(checkpoints) == before and process.poll() is None:
            time.sleep(0.002)
        time.sleep(random.random() * 0.2)
        assert process.poll() is None, "else there is nothing to kill"
        process.kill()
        process.communicate()
    with start(job) as process:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert out == "", "standard output belongs to whoever runs the step"
    first, second = record(tmp_path / "undisturbed"), record(tmp_path / "out")
    assert second["resumed_epochs"] >= 2
    assert second["state_sha256"] == first["state_sha256"]
    for one, other in zip(first["history"], second["history"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert not [path for path in checkpoints.rglob("*") if path.is_file()]


def newest(folder: Path) -> int:
    return max((path.stat().st_mtime_ns for path in folder.rglob("checkpoint.pt")), default=0)


@pytest.mark.slow
def test_two_processes_follow_the_curve_of_one(cultures, tmp_path: Path) -> None:
    # Dropout is drawn in each process, and is left out; all else is the same but for rounding.
    plain = settings(backbone="efficientnet_lite0", dropout=0.0, epochs=2, batch_size=7, processes=2)
    weights = find_weights(plain.backbone, plain.weights)
    prep = input_of(plain, weights)
    data = load_data(cultures.store, cultures.split_id, prep, cultures.home / "cache")
    model = build_classifier(plain.backbone, plain.dropout, weights, plain.seed)
    alone = Ranks(0, 1, torch.device("cpu"))
    expected = Fit(model, data, plain, 1e-3, prep, alone, pretrained=True).run().history

    modality = Modality.SINGLE_STACK
    result = train(cultures.store, cultures.split_id, 1e-3, plain, tmp_path / "out", tmp_path / "home", modality)
    assert result["processes"] == 2
    actual = record(tmp_path / "out")["history"]
    for one, two in zip(expected, actual, strict=True):
        for name in ("train_loss", "validation_loss", "validation_accuracy"):
            assert two[name] == pytest.approx(getattr(one, name), rel=2e-3), name


@pytest.mark.slow
def test_what_fails_in_a_process_of_several_is_raised_here(cultures, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'resnet51' is not one of"):
        run(cultures, tmp_path / "out", tmp_path / "home", backbone="resnet51", processes=2)


@pytest.mark.slow
def test_a_process_of_several_that_is_killed_is_told_by_its_signal(cultures, tmp_path: Path) -> None:
    def kill_one() -> None:
        # The agent's children are the two that train.
        while len(mine := training_processes()) < 3:
            time.sleep(0.1)
        mine[-1].kill()

    thread = threading.Thread(target=kill_one)
    thread.start()
    with pytest.raises(TrainingError, match="SIGKILL"):
        run(cultures, tmp_path / "out", tmp_path / "home", backbone="efficientnet_lite0", epochs=50, processes=2)
    thread.join()


def training_processes() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "components.training" in process.cmdline():
                found.append(process)
    return found


@pytest.mark.usefixtures("tiny_backbone")
def test_a_process_stops_once_the_one_that_launched_it_is_gone(cultures, tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    job = write_small_job(cultures, tmp_path, tmp_path / "home", epochs=2)
    assert main(["--job", str(job), "--parent", str(gone.pid)]) == TrainingError.exit_code
    failure = json.loads((tmp_path / "job.json.failure.json").read_bytes())
    assert failure["error"] == "TrainingError"
    assert f"process {gone.pid}" in failure["message"]
    assert main(["--job", str(job), "--parent", str(os.getpid())]) == 0


def test_job_files_survive_the_round_trip_and_name_what_is_wrong(cultures, tmp_path: Path) -> None:
    path = write_small_job(cultures, tmp_path, tmp_path / "home")
    job = read_job(path)
    write_job(job, tmp_path / "copy.json")
    assert read_job(tmp_path / "copy.json") == job
    with pytest.raises(SettingsError, match=r"--job '.*none.json' cannot be read"):
        read_job(tmp_path / "none.json")
    content = json.loads(path.read_bytes())
    content["settings"]["epochs"] = 0
    path.write_text(json.dumps(content))
    with pytest.raises(SettingsError, match=r"'settings.epochs'"):
        read_job(path)
