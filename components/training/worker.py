"""What each training process does with a job; the first of them writes the outcome."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from components.bundle import MODEL_FILE
from components.culture import CLASSES, N_CLASSES
from components.errors import StorageError
from components.events import Progress
from components.imaging import Preprocessing
from components.models.classifier import Classifier, build_classifier
from components.models.export import export_onnx
from components.models.weights import Weights, find_weights, preprocessing, state_digest
from components.provenance import environment
from components.tracking import tracked_run
from components.training.checkpoint import Checkpoint
from components.training.data import Part, TrainingData, load_data
from components.training.fit import Epoch, Fit, Fitted
from components.training.job import Job
from components.training.ranks import Ranks, join_ranks

RECORD_FILE = "training.json"


def work(job: Job, proceed: Callable[[], None] = lambda: None) -> None:
    """Train as one process of those that share a job, and write the outcome as the first of them.

    Args:
        job: The same in every process.
        proceed: Called after each epoch; what it raises ends the training.

    Raises:
        MscflowError: as the loading, the fit and the export do.
    """
    with join_ranks() as ranks:
        with _first_alone(ranks):
            weights = find_weights(job.settings.backbone, job.settings.weights)
            prep = preprocessing(job.settings.backbone, job.settings.image_size, weights, job.settings.planes)
            data = load_data(job.store_uri, job.split_id, prep, job.home / "cache")
        model = build_classifier(job.settings.backbone, job.settings.dropout, weights, job.settings.seed)
        fit = Fit(model, data, job.settings, job.learning_rate, prep, ranks, pretrained=weights.pretrained)
        checkpoint = Checkpoint(job.checkpoint_folder(weights))
        if not ranks.leads:
            fit.run(checkpoint)
            return
        started = time.perf_counter()
        with _reporting(job, proceed) as on_epoch:
            fitted = fit.run(checkpoint, on_epoch)
        record = _record(job, data, weights, prep, fitted, ranks) | {"seconds": round(time.perf_counter() - started, 3)}
        _write(job.output, model, fitted, record)
        checkpoint.clear()


@contextmanager
def _first_alone(ranks: Ranks) -> Iterator[None]:
    """Let the first process of a machine fill the caches that the others then find."""
    if ranks.world > 1 and not ranks.leads:
        dist.barrier()
    yield
    if ranks.world > 1 and ranks.leads:
        dist.barrier()


@contextmanager
def _reporting(job: Job, proceed: Callable[[], None]) -> Iterator[Callable[[Epoch], None]]:
    """Show progress and, where a tracking server is given, log each epoch to a run of its own."""
    progress = Progress("train", job.settings.epochs, "epochs")

    def show(epoch: Epoch) -> None:
        progress.advance(note=f"validation accuracy {epoch.validation_accuracy:.2f}, loss {epoch.validation_loss:.3f}")
        proceed()

    if job.mlflow_uri is None:
        yield show
        return
    params = {"learning_rate": job.learning_rate, **job.settings.model_dump(exclude={"learning_rate"})}
    tags = {"split": job.split_id, "modality": job.modality}
    with tracked_run(job.mlflow_uri, "train", kind="training", params=params, tags=tags) as run:

        def log(epoch: Epoch) -> None:
            show(epoch)
            run.log_metrics(epoch.metrics, step=epoch.epoch)

        yield log


def _record(
    job: Job, data: TrainingData, weights: Weights, prep: Preprocessing, fitted: Fitted, ranks: Ranks
) -> dict[str, Any]:
    return {
        "split_id": job.split_id,
        "modality": job.modality,
        "learning_rate": job.learning_rate,
        "seed": job.settings.seed,
        "settings": job.settings.model_dump(mode="json"),
        "preprocessing": prep.model_dump(mode="json"),
        "weights": {"source": weights.source, "sha256": weights.sha256, "note": weights.note},
        "images": {"train": _counts(data.train), "validation": _counts(data.validation)},
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


def _write(output: Path, model: Classifier, fitted: Fitted, record: dict[str, Any]) -> None:
    model.load_state_dict(fitted.state)
    try:
        output.mkdir(parents=True, exist_ok=True)
        record["onnx_max_abs_difference"] = export_onnx(model, record["settings"]["image_size"], output / MODEL_FILE)
        (output / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"the model cannot be written to {output} ({error}); free or unlock the disk") from error
