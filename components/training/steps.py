"""The training step: fit one model on a split, in this process or in several."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.culture import Modality
from components.errors import MscflowError, TrainingError
from components.settings import DetectionSettings, TrainingSettings
from components.trainer import Launching
from components.training.failure import decode_failure
from components.training.threads import wait_briefly

if TYPE_CHECKING:
    from components.training.job import Job

JOB_FILE = "job.json"
_PATIENCE = 20.0  # seconds that torchrun gets to end its processes


def train(
    store_uri: str,
    split_id: str,
    learning_rate: float,
    settings: TrainingSettings,
    output: Path,
    home: Path,
    modality: Modality,
    mlflow_uri: str | None = None,
    detection: DetectionSettings | None = None,
) -> dict[str, Any]:
    """Fit one model on the train part of a split, choosing the epoch on its validation part.

    Args:
        store_uri: The object store that holds the split and its images.
        split_id: As ``components.datasets.splits.make_split`` gave it.
        learning_rate: What the search found; ``settings.learning_rate`` goes before it.
        settings: How to train; above one process it runs under ``torchrun`` on this machine.
        output: Folder that gets ``model.onnx`` and ``training.json``.
        home: Folder that keeps checkpoints and resized images.
        modality: What the images show.
        mlflow_uri: Tracking server that gets each epoch's figures; None for none.
        detection: How abnormal cells are found; None to classify the confluence.

    Returns:
        The figures that people look at first; ``training.json`` has all.

    Raises:
        TrainingError: if the loss diverges or the exported model answers otherwise.
        InputError: if the settings, the split or the disk cannot be used.
    """
    wait_briefly()
    from components.training.job import Job

    job = Job(
        store_uri=store_uri,
        split_id=split_id,
        modality=modality,
        learning_rate=settings.learning_rate or learning_rate,
        settings=settings,
        detection=detection,
        output=output.absolute(),
        home=home.absolute(),
        mlflow_uri=mlflow_uri,
    )
    return run(job)


def run(job: "Job", launching: Launching = Launching()) -> dict[str, Any]:  # noqa: B008  it is frozen
    """Do a job, in this process or in several; see ``train``."""
    from components.training.job import write_job
    from components.training.worker import RECORD_FILE, work

    if launching.launcher == "trainjob":
        from components.training.launch import launch

        launch(job, launching)
    elif job.settings.processes == 1:
        work(job)
    else:
        path = job.output / JOB_FILE
        write_job(job, path)
        _launch(path, job.settings.processes)
    return _result(json.loads((job.output / RECORD_FILE).read_bytes()))


def _launch(job: Path, processes: int) -> None:
    """Run a job under ``torchrun`` and raise here what one of its processes raised."""
    from components.training.__main__ import FAILURE_SUFFIX
    from components.training.ranks import available_cores

    failure = job.with_name(job.name + FAILURE_SUFFIX)
    failure.unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "components.training", f"--job={job}", f"--parent={os.getpid()}"]
    threads = str(max(1, available_cores() // processes))
    with subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": threads},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as launched:
        try:
            _, complaint = launched.communicate()
        except BaseException:
            # Terminated, torchrun ends its processes; killed, it would leave them behind.
            launched.terminate()
            launched.wait(_PATIENCE)
            raise
    if launched.returncode != 0:
        raise _failure(failure, complaint)


def _failure(path: Path, complaint: str) -> MscflowError:
    if not path.is_file():
        # torchrun ends with an account of its own; what a process died of stands before it.
        words = [line.strip() for line in complaint.splitlines()]
        lines = [line for line in words if ("Error" in line or "Signal" in line) and "ChildFailed" not in line]
        return TrainingError(f"the training processes failed: {lines[-1] if lines else 'they said nothing'}")
    return decode_failure(path.read_bytes())


def _result(record: dict[str, Any]) -> dict[str, Any]:
    best = record["history"][record["best_epoch"] - 1]
    return {
        "backbone": record["settings"]["backbone"],
        "weights": record["weights"]["source"],
        "learning_rate": record["learning_rate"],
        "epochs": len(record["history"]),
        "best_epoch": record["best_epoch"],
        "validation_loss": best["validation_loss"],
        **{name: best[name] for name in ("validation_accuracy", "validation_average_precision") if name in best},
        "onnx_max_abs_difference": record["onnx_max_abs_difference"],
        "resumed_epochs": record["resumed_epochs"],
        "device": record["device"],
        "processes": record["processes"],
    }
