"""The evaluation step: calibrate on validation images, score test images, write the model's bundle."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.bundle import (
    EVIDENCE_FILE,
    KNOWN_IMAGE_FILE,
    MODEL_FILE,
    Bundle,
    KnownAnswer,
    file_digest,
    write_bundle,
)
from components.culture import CLASSES, Modality
from components.datasets.arrays import load_arrays
from components.datasets.manifest import ImageRecord
from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.evaluation import baseline
from components.evaluation.assembly import assemble, check_parts_are_apart, describe_data
from components.evaluation.baseline import Baseline
from components.evaluation.calibration import calibrate
from components.evaluation.evidence import Evidence, Model, write_evidence
from components.evaluation.familiarity import familiarise
from components.evaluation.inputs import Training, read_search, read_training, take_weights
from components.evaluation.pictures import known_image, sheet
from components.evaluation.scored import Scored
from components.evaluation.scoring import Network, images_of, labels, majority_class, scored
from components.imaging import Preprocessing
from components.novelty import NOVELTY_FILE, Familiar
from components.settings import FALSE_ABSTAIN
from components.storage import open_store

RETURNED = (
    "accuracy",
    "within_one_class",
    "roc_auc_micro",
    "pr_auc_micro",
    "majority_accuracy",
    "balanced_accuracy",
    "quadratic_kappa",
    "missed_overgrowth",
)


def evaluate(
    store_uri: str,
    split_id: str,
    model_dir: Path,
    search_file: Path | None,
    output: Path,
    home: Path,
    *,
    modality: Modality,
    data_version: str,
    lineage: str,
    quarantined: Mapping[str, float] | None = None,
    false_abstain: float = FALSE_ABSTAIN,
) -> dict[str, Any]:
    """Evaluate a trained model and write its bundle.

    Args:
        store_uri: Object store that holds the split and its images.
        split_id: The split's digest.
        model_dir: Training's output: ``model.onnx`` and ``training.json``.
        search_file: The search's output, if there was one.
        output: Folder that becomes the bundle; see ``components.bundle``.
        home: Where decoded images are cached.
        modality: Of the images, which decides the model's name.
        data_version: Digest of the data version that was split.
        lineage: Whose frozen test images these are.
        quarantined: How many images were left out before the split, by reason.
        false_abstain: Share of images like the training's that may be held to be foreign; see ``components.novelty``.

    Returns:
        Test metrics by name (None where undefined), with the temperature, the calibration error, and the share of
        the test images on which it abstains because they look foreign.

    Raises:
        IntegrityError: if the training's or the search's output is missing or damaged.
        DataError: if a part of the split is empty, or the test part is not apart from the others.
    """
    training = read_training(model_dir)
    search = read_search(search_file) if search_file else None
    repository = DataRepository(open_store(store_uri, must_exist=True), cache=home / "cache")
    parts = _parts(repository, split_id)
    network = Network(model_dir / MODEL_FILE, training.prepare)
    answers = {
        part: network.logits(load_arrays(repository, parts[part], training.prepare, home / "cache"))
        for part in ("validation", "test")
    }
    calibration = calibrate(answers["validation"], labels(parts["validation"]))
    test = scored(
        file_digest(model_dir / MODEL_FILE),
        parts["test"],
        answers["test"],
        temperature=calibration.temperature,
        majority_class=majority_class(parts),
    )
    familiar, familiarity = familiarise(repository, parts, home / "cache", false_abstain=false_abstain)
    evidence = assemble(
        test,
        model=_describe_model(modality, training, test.model),
        data=describe_data(
            parts,
            version=data_version,
            lineage=lineage,
            split_id=split_id,
            majority_class=test.majority_class,
            quarantined=quarantined,
        ),
        calibration=calibration,
        training=training,
        search=search,
        sheet=sheet(repository, parts["test"], test),
        baselines=_baselines(repository, parts, test, home / "cache"),
        familiarity=familiarity,
    )
    _write(output, model_dir, evidence, known_image(repository, parts["test"], test, network, familiar), familiar)
    return _metrics(evidence)


def _baselines(
    repository: DataRepository, parts: dict[str, list[ImageRecord]], test: Scored, cache: Path
) -> tuple[Baseline, ...]:
    train = baseline.sampled(parts["train"])
    return baseline.baselines(
        baseline.coverage(repository, train, cache),
        labels(train),
        baseline.coverage(repository, parts["test"], cache),
        test,
    )


def _parts(repository: DataRepository, split_id: str) -> dict[str, list[ImageRecord]]:
    read = load_split(repository, split_id)
    parts = {part: images_of(read, part, split_id) for part in ("train", "validation", "test")}
    check_parts_are_apart(parts)
    return parts


def _describe_model(modality: Modality, training: Training, digest: str) -> Model:
    return Model(
        name=modality.model_name,
        modality=modality,
        backbone=training.backbone,
        sha256=digest,
        preprocessing=training.preprocessing,
        weights=str(training.weights),
        learning_rate=training.learning_rate,
        settings=training.settings,
    )


def _metrics(evidence: Evidence) -> dict[str, Any]:
    measured = evidence.measured
    return {
        **{name: measured.value(name) for name in RETURNED},
        "n": measured.n,
        "ece": evidence.test_ece,
        "temperature": evidence.calibration.temperature,
        "foreign": evidence.familiarity and evidence.familiarity.foreign.value,
    }


def _write(
    output: Path, model_dir: Path, evidence: Evidence, known: tuple[bytes, KnownAnswer], familiar: Familiar
) -> None:
    png, answer = known
    output.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model_dir / MODEL_FILE, output / MODEL_FILE)
    (output / KNOWN_IMAGE_FILE).write_bytes(png)
    write_evidence(evidence, output / EVIDENCE_FILE)
    familiar.write(output / NOVELTY_FILE)
    bundle = Bundle(
        model_name=evidence.model.name,
        modality=Modality(evidence.model.modality),
        backbone=evidence.model.backbone,
        classes=tuple(each.decision for each in CLASSES),
        preprocessing=Preprocessing.model_validate(evidence.model.preprocessing),
        temperature=evidence.calibration.temperature,
        min_confidence=evidence.calibration.min_confidence,
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
