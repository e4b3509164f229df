"""What each training process does with a job; the first of them writes the outcome."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from components.bundle import MODEL_FILE, WEIGHTS_FILE
from components.culture import CLASSES, N_CLASSES, Task
from components.errors import StorageError
from components.events import Progress
from components.imaging import Preprocessing
from components.models.champion import save_weights
from components.models.classifier import build_classifier
from components.models.export import export_onnx
from components.models.weights import Weights, input_of, state_digest
from components.provenance import environment
from components.settings import DetectionSettings
from components.tracking import tracked_run
from components.training.checkpoint import Checkpoint, FileCheckpoint, StoredCheckpoint
from components.training.data import Part, load_data
from components.training.fit import Fit
from components.training.job import Job
from components.training.loop import Loop, Outcome, Result
from components.training.ranks import Ranks, join_ranks
from components.training.stored import StoredTraining

RECORD_FILE = "training.json"


def work(job: Job, proceed: Callable[[], None] = lambda: None, training: StoredTraining | None = None) -> None:
    """Train as one process of those that share a job, and write the outcome as the first of them.

    Args:
        job: The same in every process.
        proceed: Called after each epoch; what it raises ends the training.
        training: The store's, which then gets the checkpoints and the outcome; None keeps them on this machine.

    Raises:
        MscflowError: as the loading, the fit and the export do.
    """
    with join_ranks() as ranks:
        if training is not None and _finished(training, ranks):
            return
        with _first_alone(ranks):
            weights = job.first_weights()
            prep = input_of(job.settings, weights)
            make = _classifying if job.detection is None else _detecting
            made = make(job, weights, prep, ranks)
        checkpoint = _checkpoint(job, weights, training)
        if not ranks.leads:
            made.fit.run(checkpoint)
            return
        started = time.perf_counter()
        with _reporting(job, proceed) as on_epoch:
            fitted = made.fit.run(checkpoint, on_epoch)
        seconds = {"seconds": round(time.perf_counter() - started, 3)}
        record = _record(job, made.images, weights, prep, fitted, ranks) | seconds
        _write(job.output, made, fitted, record)
        if training is not None:
            training.put_result(job.output)
            shutil.rmtree(job.output)
        if training is not None or not job.keep:
            checkpoint.clear()


def forget(job: Job) -> None:
    """Forget the state of a fit that was to be kept."""
    FileCheckpoint(job.checkpoint_folder(job.first_weights())).clear()


def _finished(training: StoredTraining, ranks: Ranks) -> bool:
    """Tell whether there is an outcome already, as all processes must hold the same of it."""
    return ranks.tell(b"1" if ranks.leads and training.finished else b"") == b"1"


def _checkpoint(job: Job, weights: Weights, training: StoredTraining | None) -> Checkpoint:
    if training is None:
        return FileCheckpoint(job.checkpoint_folder(weights))
    return StoredCheckpoint(training.store, training.checkpoint_key(job, weights))


@dataclass(frozen=True)
class _Made:
    """What differs from task to task.

    Attributes:
        fit: Yet to run.
        images: What each part holds, for the record.
        export: Writes the network as ONNX, as it is then, and gives how far the two differ.
    """

    fit: Loop[Any]
    images: dict[str, dict[str, int]]
    export: Callable[[Path], float]


def _classifying(job: Job, weights: Weights, prep: Preprocessing, ranks: Ranks) -> _Made:
    settings = job.settings
    data = load_data(job.store_uri, job.split_id, prep, job.home / "cache")
    model = build_classifier(settings.backbone, settings.dropout, weights, settings.seed)
    fit = Fit(model, data, settings, job.learning_rate, prep, ranks, pretrained=weights.pretrained)
    images = {"train": _counts(data.train), "validation": _counts(data.validation)}
    return _Made(fit, images, lambda path: export_onnx(model, settings.image_size, path))


def _detecting(job: Job, weights: Weights, prep: Preprocessing, ranks: Ranks) -> _Made:
    from components.models.detector_export import export_detector
    from components.training.boxed import load_boxed_split
    from components.training.detection import make_fit

    detection = job.detection or DetectionSettings()
    settings = job.settings.model_copy(update={"learning_rate": job.learning_rate})
    parts = load_boxed_split(job.store_uri, job.split_id, prep, detection.positive, job.home / "cache")
    fit = make_fit(*parts, settings, detection, weights, ranks)
    images = {name: part.counts for name, part in zip(("train", "validation"), parts, strict=True)}
    return _Made(fit, images, lambda path: export_detector(fit.model, detection, path))


@contextmanager
def _first_alone(ranks: Ranks) -> Iterator[None]:
    """Let the first process of a machine fill the caches that the others then find."""
    first = ranks.local == 0
    if ranks.world > 1 and not first:
        dist.barrier()
    yield
    if ranks.world > 1 and first:
        dist.barrier()


@contextmanager
def _reporting(job: Job, proceed: Callable[[], None]) -> Iterator[Callable[[Any], None]]:
    """Show progress and, where a tracking server is given, log each epoch to a run of its own."""
    progress = Progress("train", job.settings.epochs, "epochs")

    def show(epoch: Outcome) -> None:
        progress.advance(note=epoch.note)
        proceed()

    if job.mlflow_uri is None:
        yield show
        return
    params = {"learning_rate": job.learning_rate, **job.settings.model_dump(exclude={"learning_rate"})}
    tags = {"split": job.split_id, "modality": job.modality}
    with tracked_run(job.mlflow_uri, "train", kind="training", params=params, tags=tags) as run:

        def log(epoch: Outcome) -> None:
            show(epoch)
            run.log_metrics(epoch.metrics, step=epoch.epoch)

        yield log


def _record(
    job: Job, images: dict[str, Any], weights: Weights, prep: Preprocessing, fitted: Result[Any], ranks: Ranks
) -> dict[str, Any]:
    return {
        "split_id": job.split_id,
        "modality": job.modality,
        "learning_rate": job.learning_rate,
        "seed": job.settings.seed,
        # What was done, where the settings left it open.
        "settings": job.settings.model_dump(mode="json") | {"augmentations": list(job.settings.chosen_augmentations)},
        "preprocessing": prep.model_dump(mode="json"),
        "weights": {"source": weights.source, "sha256": weights.sha256, "note": weights.note},
        "task": Task.CONFLUENCE if job.detection is None else Task.ABNORMAL_CELLS,
        "detection": job.detection.model_dump(mode="json") if job.detection else None,
        "images": images,
        "history": [asdict(epoch) for epoch in fitted.history],
        "best_epoch": fitted.best.epoch,
        "resumed_epochs": fitted.resumed,
        "state_sha256": state_digest(fitted.state),
        "device": str(ranks.device),
        "processes": ranks.world,
        "threads": torch.get_num_threads(),
        "environment": environment(),
    }


def _counts(part: Part) -> dict[str, int]:
    counts = torch.bincount(part.labels, minlength=N_CLASSES).tolist()
    return {str(int(name)): count for name, count in zip(CLASSES, counts, strict=True)}


def _write(output: Path, made: _Made, fitted: Result[Any], record: dict[str, Any]) -> None:
    made.fit.network.load_state_dict(fitted.state)
    try:
        output.mkdir(parents=True, exist_ok=True)
        save_weights(fitted.state, output / WEIGHTS_FILE)
        record["onnx_max_abs_difference"] = made.export(output / MODEL_FILE)
        (output / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"the model cannot be written to {output} ({error}); free or unlock the disk") from error
