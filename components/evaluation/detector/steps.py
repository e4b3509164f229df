"""The evaluation step of a detector: choose its threshold on validation images, score test images, write its bundle."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from components.bundle import (
    EVIDENCE_FILE,
    KNOWN_IMAGE_FILE,
    MODEL_FILE,
    DetectorBundle,
    KnownBoxes,
    file_digest,
    write_bundle,
)
from components.culture import ABNORMAL_MODEL, Modality
from components.datasets.arrays import load_arrays
from components.datasets.boxed import is_abnormal
from components.datasets.manifest import ImageRecord
from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.errors import IntegrityError
from components.evaluation.assembly import check_parts_are_apart, sliced
from components.evaluation.curves import Curve, curve
from components.evaluation.detection import (
    FROC_RATES,
    THRESHOLD_RULE,
    Matched,
    choose_threshold,
    froc,
    precision_recall,
)
from components.evaluation.detector.evidence import (
    Answer,
    Count,
    Data,
    DetectorEvidence,
    Epoch,
    Slice,
    write_detector_evidence,
)
from components.evaluation.detector.pictures import known_boxes, marked_sheet
from components.evaluation.detector.scored import BoxNetwork, BoxScored, box_scored, true_boxes
from components.evaluation.evidence import Model
from components.evaluation.familiarity import Familiarity, familiarise
from components.evaluation.inputs import TRAINING_FILE, Weights, take_weights
from components.evaluation.scoring import images_of
from components.imaging import Preprocessing
from components.novelty import NOVELTY_FILE, Familiar
from components.provenance import code_version, environment
from components.settings import FALSE_ABSTAIN, DetectionSettings
from components.storage import open_store

RETURNED = (
    "recall",
    "false_discovery_rate",
    "average_precision",
    "f1",
    "froc",
    "false_per_image",
    "clean_images",
    "hit_rate",
    "hit_false_discovery_rate",
)
_SLICE_RESAMPLES = 500
_SLICED = ("recall", "false_discovery_rate", "average_precision")


class _Training(msgspec.Struct, frozen=True, kw_only=True):
    """What the detector's training tells of itself."""

    history: tuple[Epoch, ...]
    best_epoch: int
    learning_rate: float
    settings: dict[str, Any]
    detection: dict[str, Any]
    preprocessing: dict[str, Any]
    weights: Weights
    environment: dict[str, Any] = {}


def evaluate_detector(
    store_uri: str,
    split_id: str,
    model_dir: Path,
    output: Path,
    home: Path,
    *,
    modality: Modality,
    data_version: str,
    lineage: str,
    quarantined: Mapping[str, float] | None = None,
    false_abstain: float = FALSE_ABSTAIN,
) -> dict[str, Any]:
    """Evaluate a trained detector and write its bundle.

    Args:
        store_uri: Object store that holds the split and its images.
        split_id: The split's digest.
        model_dir: Training's output: ``model.onnx`` and ``training.json``.
        output: Folder that becomes the bundle; see ``components.bundle``.
        home: Where decoded images are cached.
        modality: Of the images.
        data_version: Digest of the data version that was split.
        lineage: Whose frozen test images these are.
        quarantined: How many images were left out before the split, by reason.
        false_abstain: Share of images like the training's that may be held to be foreign; see ``components.novelty``.

    Returns:
        Test metrics by name (None where undefined), with the threshold, and the share of the test images on which it
        abstains because they look foreign.

    Raises:
        IntegrityError: if the training's output is missing or damaged.
        DataError: if a part of the split is empty, or the test part is not apart from the others.
    """
    training = _read_training(model_dir)
    settings = DetectionSettings.model_validate(training.detection)
    prep = Preprocessing.model_validate(training.preprocessing)
    cache = home / "cache"
    repository = DataRepository(open_store(store_uri, must_exist=True), cache=cache)
    read = load_split(repository, split_id)
    parts = {part: images_of(read, part, split_id) for part in ("train", "validation", "test")}
    check_parts_are_apart(parts)
    network, digest = BoxNetwork(model_dir / MODEL_FILE, prep), file_digest(model_dir / MODEL_FILE)

    def score(part: str, threshold: float) -> BoxScored:
        found = network.find(load_arrays(repository, parts[part], prep, cache))
        truth = true_boxes(repository, parts[part], settings.positive, cache)
        labels = settings.positive
        return box_scored(digest, parts[part], truth, found, positive=labels, threshold=threshold, iou=settings.iou)

    unsettled = score("validation", 1.0)
    threshold = choose_threshold(unsettled.truth, unsettled.found, settings.iou)
    validation, test = replace(unsettled, threshold=threshold), score("test", threshold)
    familiar, familiarity = familiarise(repository, parts, cache, false_abstain=false_abstain)
    evidence = _assemble(
        validation,
        test,
        familiarity=familiarity,
        training=training,
        model=_model(training, modality, digest),
        data=Data(
            version=data_version,
            lineage=lineage,
            split_id=split_id,
            positive=settings.positive,
            counts={part: _count(records, settings.positive) for part, records in parts.items()},
            quarantined=None if quarantined is None else {why: int(count) for why, count in quarantined.items()},
        ),
        repository=repository,
        records=parts["test"],
    )
    _write(output, model_dir, evidence, known_boxes(repository, parts["test"], test, network, familiar), familiar)
    return _metrics(evidence)


def _read_training(model_dir: Path) -> _Training:
    path = model_dir / TRAINING_FILE
    if not (model_dir / MODEL_FILE).is_file():
        raise IntegrityError(f"{model_dir} holds no {MODEL_FILE}; run the training step again")
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Training)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read ({error.strerror}); run the training step again") from error
    except msgspec.DecodeError as error:
        raise IntegrityError(f"{path} is not what a detector's training writes: {error}") from error


def _model(training: _Training, modality: Modality, digest: str) -> Model:
    return Model(
        name=ABNORMAL_MODEL,
        modality=modality,
        backbone=str(training.settings["backbone"]),
        sha256=digest,
        preprocessing=training.preprocessing,
        weights=str(training.weights),
        learning_rate=training.learning_rate,
        settings=training.settings,
    )


def _count(records: Sequence[ImageRecord], positive: Collection[str]) -> Count:
    return Count(
        images=len(records),
        with_abnormal=sum(is_abnormal(record, positive) for record in records),
        abnormal=sum(box.label in positive for record in records for box in record.boxes or ()),
        groups=len({record.split_group for record in records}),
    )


def _assemble(
    validation: BoxScored,
    test: BoxScored,
    *,
    familiarity: Familiarity,
    training: _Training,
    model: Model,
    data: Data,
    repository: DataRepository,
    records: Sequence[ImageRecord],
) -> DetectorEvidence:
    measured, matched = test.measured(), Matched.of(test.truth, test.found, test.iou)
    areas = {name: measured.value(name) or 0.0 for name in ("average_precision", "froc")}
    return DetectorEvidence(
        created=datetime.now(UTC),
        model=model,
        data=data,
        detection=training.detection,
        threshold=test.threshold,
        rule=THRESHOLD_RULE,
        iou=test.iou,
        measured=measured,
        validation=validation.measured(),
        slices=_slices(test),
        precision_recall=curve("precision-recall", *precision_recall(matched), areas["average_precision"]),
        froc=_froc_curve(matched, areas["froc"]),
        history=training.history,
        best_epoch=training.best_epoch,
        answers=_answers(test),
        sheet=marked_sheet(repository, records, test),
        code_version=code_version(),
        environment=environment(),
        training_environment=training.environment,
        familiarity=familiarity,
    )


def _froc_curve(matched: Matched, area: float) -> Curve:
    """Give the part of the curve that is looked at, so that thinning it out spares its steps."""
    false, recall = froc(matched)
    borne = false <= FROC_RATES[-1]
    return curve("froc", false[borne], recall[borne], area)


def _slices(test: BoxScored) -> tuple[Slice, ...]:
    result = []
    for field, value, rows in sliced(test.slices):
        part = test.of_images(rows)
        measured = part.measured(resamples=_SLICE_RESAMPLES)
        figures = {name: measured.figures[name] for name in _SLICED}
        counts = {"n": measured.n, "groups": measured.groups, "cells": len(part.truth)}
        result.append(Slice(field=field, value=value, figures=figures, **counts))
    return tuple(result)


def _answers(test: BoxScored) -> tuple[Answer, ...]:
    right, given, truths = test.tallies.astype(int).tolist()
    return tuple(
        Answer(
            path=test.paths[row],
            sha256=test.sha256s[row],
            group=test.groups[row],
            cells=truths[row],
            right=right[row],
            false=given[row] - right[row],
        )
        for row in range(len(test))
    )


def _metrics(evidence: DetectorEvidence) -> dict[str, Any]:
    measured = evidence.measured
    return {
        **{name: measured.value(name) for name in RETURNED},
        "n": measured.n,
        "cells": sum(answer.cells for answer in evidence.answers),
        "threshold": evidence.threshold,
        "foreign": evidence.familiarity and evidence.familiarity.foreign.value,
    }


def _write(
    output: Path, model_dir: Path, evidence: DetectorEvidence, known: tuple[bytes, KnownBoxes], familiar: Familiar
) -> None:
    png, answer = known
    output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model_dir / MODEL_FILE, output / MODEL_FILE)
    (output / KNOWN_IMAGE_FILE).write_bytes(png)
    write_detector_evidence(evidence, output / EVIDENCE_FILE)
    familiar.write(output / NOVELTY_FILE)
    bundle = DetectorBundle(
        model_name=evidence.model.name,
        modality=Modality(evidence.model.modality),
        backbone=evidence.model.backbone,
        preprocessing=Preprocessing.model_validate(evidence.model.preprocessing),
        positive=evidence.data.positive,
        min_score=evidence.threshold,
        iou=evidence.iou,
        known=answer,
        data_version=evidence.data.version,
        split_id=evidence.data.split_id,
        code_version=evidence.code_version,
        created=evidence.created,
        # JSON has no NaN: what is undefined is left out.
        metrics={name: value for name, value in _metrics(evidence).items() if value is not None},
        files={
            name: file_digest(output / name) for name in (MODEL_FILE, KNOWN_IMAGE_FILE, EVIDENCE_FILE, NOVELTY_FILE)
        },
        weights=take_weights(model_dir, output),
    )
    write_bundle(output, bundle)
