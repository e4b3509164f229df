"""From a split to a detector's bundle, by the steps that the pipeline runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.bundle import DetectorBundle, read_any_bundle, read_bundle
from components.culture import Modality
from components.datasets import steps as data_steps
from components.errors import IntegrityError
from components.evaluation.detector.evidence import read_detector_evidence
from components.evaluation.detector.scored import BoxNetwork
from components.evaluation.detector.steps import evaluate_detector
from components.evaluation.judging import judge_version, score_version, write_version_page
from components.imaging import preprocess
from components.novelty import Familiar
from components.settings import DataSettings, DetectionSettings, GateSettings, SplitSettings, TrainingSettings
from components.training import steps as training_steps

DETECTION = DetectionSettings(positive=("Dead",), width=16, depth=1, min_score=0.001)


def draw_cultures(folder: Path) -> None:
    """Write three images a vessel: bright squares are dead cells, dark ones are alive, and one image is empty."""
    rng = np.random.default_rng(0)
    labels, boxes = ["file,vessel"], ["file,x1,y1,x2,y2,class"]
    (folder / "images").mkdir(parents=True)
    for vessel in range(10):
        for number, label in enumerate(("Dead", "Alive", "")):
            name = f"images/v{vessel}_{number}.png"
            picture = rng.integers(100, 150, (60, 80, 3)).astype(np.uint8)
            if label:
                x, y = rng.integers(0, 55), rng.integers(0, 35)
                picture[y : y + 20, x : x + 20] = 250 if label == "Dead" else 5
            Image.fromarray(picture).save(folder / name)
            labels.append(f"{name},v{vessel}")
            boxes.append(f"{name},{x},{y},{x + 20},{y + 20},{label}" if label else f"{name},,,,,")
    (folder / "labels.csv").write_text("\n".join(labels) + "\n")
    (folder / "boxes.csv").write_text("\n".join(boxes) + "\n")


def test_a_split_becomes_a_bundle_that_is_judged_and_reported(tiny_pyramid: str, tmp_path: Path) -> None:
    draw_cultures(tmp_path / "source")
    home, store = tmp_path / "home", str(tmp_path / "home" / "store")
    taken = data_steps.snapshot(
        str(tmp_path / "source"), store, DataSettings(unlabelled=True), Modality.SINGLE_STACK, home
    )
    divided = data_steps.split(store, taken["data_version"], "lab", SplitSettings(), DETECTION.positive)
    assert divided["lineage"] == "lab-abnormal-cells"
    training = TrainingSettings(backbone=tiny_pyramid, weights="none", planes="rgb", image_size=64, epochs=2)
    trained = training_steps.train(
        store, divided["split_id"], 1e-2, training, tmp_path / "model", home, Modality.SINGLE_STACK, None, DETECTION
    )
    assert trained["epochs"] == 2
    assert 0 <= trained["validation_average_precision"] <= 1
    record = json.loads((tmp_path / "model" / "training.json").read_text())
    assert record["task"] == "abnormal_cells"
    assert record["images"]["train"]["other"] > 0

    bundle_dir = tmp_path / "bundle"
    metrics = evaluate_detector(
        store,
        divided["split_id"],
        tmp_path / "model",
        bundle_dir,
        home,
        modality=Modality.SINGLE_STACK,
        data_version=taken["data_version"],
        lineage=divided["lineage"],
        quarantined={"blank": 1.0},
    )
    bundle, _ = read_any_bundle(bundle_dir)
    assert isinstance(bundle, DetectorBundle)
    assert bundle.model_name == "abnormal-cells"
    assert bundle.metrics["average_precision"] == metrics["average_precision"]
    evidence = read_detector_evidence(bundle_dir / "evidence.json")
    assert evidence.data.counts["test"].images == metrics["n"] == len(evidence.answers) == len(evidence.sheet)
    assert evidence.measured.groups == evidence.data.counts["test"].groups == 2

    # Ten vessels of three images: six of them set the bound.
    assert evidence.familiarity.calibrated_on == 6 and evidence.familiarity.n == metrics["n"]
    assert evidence.familiarity.foreign.value == metrics["foreign"]
    assert Familiar.read(bundle_dir / "novelty.npz").judge(np.full((60, 80, 3), 255, np.uint8)).novelty > 1

    # The known image is answered as it was when the bundle was written.
    network = BoxNetwork(bundle_dir / "model.onnx", bundle.preprocessing)
    known = network.find_in(preprocess((bundle_dir / "known.png").read_bytes(), bundle.preprocessing)[np.newaxis])
    np.testing.assert_allclose(np.sort(known.scores)[::-1][: len(bundle.known.scores)], bundle.known.scores, atol=1e-4)

    scored = score_version(store, divided["split_id"], bundle_dir, home / "cache")
    verdict = judge_version(scored, scored, GateSettings(min_recall=0, min_average_precision=0, max_false_discovery=1))
    assert verdict.passed
    write_version_page(bundle_dir, tmp_path / "page.html", verdict=verdict, version="1")
    assert "Passed the gate" in (tmp_path / "page.html").read_text()

    # Who asks for the confluence is told what lies here instead.
    with pytest.raises(IntegrityError, match="abnormal-cells, a model for abnormal_cells"):
        read_bundle(bundle_dir)
