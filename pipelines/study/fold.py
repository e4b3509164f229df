"""One fold from its images to its result: search, fit, score. It goes on where it was stopped."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from components.culture import Task
from components.datasets.arrays import load_arrays
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.calibration import calibration_error, fit_temperature
from components.evaluation.detection import choose_threshold, measure_detections
from components.evaluation.metrics import measure
from components.evaluation.resampling import Floats, Integers
from components.evaluation.scoring import labels, majority_class
from components.imaging import probabilities
from components.models.classifier import build_classifier
from components.models.weights import Weights, find_weights, input_of, state_digest
from components.provenance import environment
from components.storage import open_store
from components.training.boxed import load_boxed
from components.training.checkpoint import FileCheckpoint
from components.training.data import Part, TrainingData
from components.training.fit import Fit
from components.training.loop import Outcome, Result
from components.training.ranks import Ranks, join_ranks
from components.tuning.steps import find_rate
from pipelines.study.images import records_of, serving
from pipelines.study.job import Job
from pipelines.study.results import Answers, FoldResult, write_result

# Told of each epoch: its number, its seconds and the figure that people follow.
Tell = Callable[[int, float, float], None]

_PARTS = ("train", "validation", "test")


def run_fold(job: Job, tell: Tell) -> FoldResult:
    """Train and score one fold and write its result.

    Args:
        job: The fold; whatever of it was done before is not done again.
        tell: Told of each epoch; what it raises ends the fold, which can be taken up again.

    Raises:
        TrainingError: if the loss diverges.
        InputError: if the images, the weights or the disk cannot be used.
    """
    repository = DataRepository(open_store(job.store_uri, must_exist=True), cache=job.cache)
    cell, fold = job.unit.cell, job.unit.fold
    records = serving(records_of(repository, job.versions, job.stray), cell.task, cell.modality)
    parts = {name: [records[row] for row in getattr(fold, name)] for name in _PARTS}
    weights = find_weights(cell.backbone, job.unit.settings.weights)
    with join_ranks() as ranks:
        run = _classify if cell.task == Task.CONFLUENCE else _detect
        result = run(job, repository, parts, weights, ranks, tell)
    write_result(job.result_path, result)
    shutil.rmtree(job.checkpoints, ignore_errors=True)
    return result


def _classify(
    job: Job,
    repository: DataRepository,
    parts: dict[str, list[ImageRecord]],
    weights: Weights,
    ranks: Ranks,
    tell: Tell,
) -> FoldResult:
    settings, cache = job.unit.settings, job.cache
    prep = input_of(settings, weights)

    def part(name: str) -> Part:
        images = load_arrays(repository, parts[name], prep, cache)
        return Part.of(images, labels(parts[name]).tolist())

    data = TrainingData(part("train"), part("validation"))
    rate = settings.learning_rate or find_rate(
        job.unit.key, lambda: data, job.unit.searching, settings, weights, job.checkpoints
    )
    model = build_classifier(settings.backbone, settings.dropout, weights, settings.seed)
    fit = Fit(model, data, settings, rate, prep, ranks, pretrained=weights.pretrained)
    fitted = fit.run(
        FileCheckpoint(job.checkpoints), lambda epoch: tell(epoch.epoch, epoch.seconds, epoch.validation_accuracy)
    )
    model.load_state_dict(fitted.state)
    temperature = fit_temperature(fit.logits(data.validation).numpy(), labels(parts["validation"]))
    logits, truth = fit.logits(part("test")).numpy(), labels(parts["test"])
    return _result(
        job,
        parts,
        weights,
        ranks,
        fitted,
        rate,
        figures=classified(truth, logits, temperature, parts),
        answers=Answers(
            paths=tuple(record.path for record in parts["test"]),
            sha256s=tuple(record.sha256 for record in parts["test"]),
            groups=tuple(record.split_group for record in parts["test"]),
            truth=tuple(truth.tolist()),
            logits=tuple(map(tuple, logits.tolist())),
            temperature=temperature,
        ),
    )


def classified(
    truth: Integers, logits: Floats, temperature: float, parts: dict[str, list[ImageRecord]]
) -> dict[str, float | None]:
    """Measure a fold's answers: all figures, and the calibration error before and after the temperature."""
    after = probabilities(logits, temperature)
    groups = [record.split_group for record in parts["test"]]
    measured = measure(truth, after, groups, majority_class=majority_class(parts), resamples=1)
    figures = {name: figure.value for name, figure in measured.figures.items()}
    return figures | {
        "ece_before": calibration_error(probabilities(logits), truth),
        "ece_after": calibration_error(after, truth),
    }


def _detect(
    job: Job,
    repository: DataRepository,
    parts: dict[str, list[ImageRecord]],
    weights: Weights,
    ranks: Ranks,
    tell: Tell,
) -> FoldResult:
    # It takes torchvision, which classifiers can do without.
    from components.training.detection import fit_detector

    settings, detection, cache = job.unit.settings, job.unit.detecting, job.cache
    prep = input_of(settings, weights)
    train, validation, test = (load_boxed(repository, parts[name], prep, detection.positive, cache) for name in _PARTS)
    fitted = fit_detector(
        train,
        validation,
        settings,
        detection,
        weights=weights,
        ranks=ranks,
        checkpoint=FileCheckpoint(job.checkpoints),
        on_epoch=lambda epoch: tell(epoch.epoch, epoch.seconds, epoch.validation_average_precision),
    )
    threshold = choose_threshold(validation.truth, fitted.find(validation.images.numpy()), detection.iou)
    measured = measure_detections(
        test.truth,
        fitted.find(test.images.numpy()),
        [record.split_group for record in parts["test"]],
        threshold=threshold,
        iou=detection.iou,
        resamples=1,
    )
    figures = {name: figure.value for name, figure in measured.figures.items()} | {"threshold": threshold}
    rate = float(settings.learning_rate or 0)
    return _result(job, parts, weights, ranks, fitted.result, rate, figures=figures)


def _result(
    job: Job,
    parts: dict[str, list[ImageRecord]],
    weights: Weights,
    ranks: Ranks,
    fitted: Result[Any],
    rate: float,
    *,
    figures: dict[str, float | None],
    answers: Answers | None = None,
) -> FoldResult:
    unit, history = job.unit, fitted.history
    return FoldResult(
        key=unit.key,
        cell=unit.cell,
        fold=unit.fold.name,
        seed=unit.settings.seed,
        learning_rate=rate,
        trials=unit.trials,
        weights=weights.source,
        images={name: len(records) for name, records in parts.items()},
        groups={name: _groups(records) for name, records in parts.items()},
        history=tuple(_plain(epoch) for epoch in history),
        best_epoch=fitted.best.epoch,
        state_sha256=state_digest(fitted.state),
        figures=figures,
        answers=answers,
        seconds=round(sum(epoch.seconds for epoch in history), 3),
        device=str(ranks.device),
        environment=environment(),
    )


def _groups(records: Sequence[ImageRecord]) -> int:
    return len({record.split_group for record in records})


def _plain(epoch: Outcome) -> dict[str, float]:
    return {name: float(value) for name, value in asdict(epoch).items()}
