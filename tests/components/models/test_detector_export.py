"""What the exported detector finds is what the trained one finds, for any number of images."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from components.boxes import Boxes, match
from components.errors import TrainingError
from components.models import detector_export
from components.models.detector import Detector, build_detector, gathered, strongest
from components.models.detector_export import OUTPUTS, export_detector
from components.models.weights import Weights
from components.settings import DetectionSettings

SETTINGS = DetectionSettings(width=16, depth=1, min_score=0.3, max_boxes=7)


@pytest.fixture
def detector(tiny_pyramid: str) -> Detector:
    model = build_detector(tiny_pyramid, 64, 2, SETTINGS, Weights("none"), 0).eval()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        # As sure of some boxes as a trained head would be.
        nn.init.normal_(model.kind.answer.weight, std=1.0)
        nn.init.normal_(model.place.answer.weight, std=0.3)
    return model


def test_it_finds_the_same_boxes(detector: Detector, tmp_path: Path) -> None:
    assert export_detector(detector, SETTINGS, tmp_path / "model.onnx") < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            expected = gathered(strongest(*detector.candidates(*detector(images)), SETTINGS))
        boxes, scores, image = session.run(list(OUTPUTS), {"images": images.numpy()})
        found = Boxes(boxes.astype(float), scores.astype(float), image, count)
        assert len(found) == len(expected) > count
        assert found.counts.max() == SETTINGS.max_boxes
        partner = match(expected, found, 0.99)
        assert (partner >= 0).all()
        np.testing.assert_allclose(found.corners, expected.corners[partner], atol=1e-5)
        np.testing.assert_allclose(found.scores, expected.scores[partner], atol=1e-5)
        assert found.scores.min() > SETTINGS.min_score


def test_an_image_in_which_nothing_is_found_has_no_row(tiny_pyramid: str, tmp_path: Path) -> None:
    model = build_detector(tiny_pyramid, 64, 1, SETTINGS, Weights("none"), 0)
    export_detector(model, SETTINGS, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    boxes, scores, image = session.run(list(OUTPUTS), {"images": np.zeros((2, 3, 64, 64), np.float32)})
    assert boxes.shape == (0, 4)
    assert len(scores) == len(image) == 0


@pytest.mark.parametrize("broken", ["overlap", "weights"])
def test_a_file_that_answers_otherwise_is_refused(
    broken: str, detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suppress = detector_export._suppress

    def break_it(path: Path, settings: DetectionSettings) -> None:
        suppress(path, settings)
        model = onnx.load(path)
        chosen = {
            "overlap": lambda each: each.name == "nms_overlap",
            "weights": lambda each: len(each.dims) == 4,
        }[broken]
        tensor = next(each for each in model.graph.initializer if chosen(each))
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.3), tensor.name))
        onnx.save(model, path)

    monkeypatch.setattr(detector_export, "_suppress", break_it)
    with pytest.raises(TrainingError, match="answers otherwise"):
        export_detector(detector, SETTINGS, tmp_path / "model.onnx")


def test_equal_seeds_give_equal_detectors(tiny_pyramid: str) -> None:
    first, again, other = (
        build_detector(tiny_pyramid, 64, 1, SETTINGS, Weights("none"), seed).kind.answer.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3", "resnet50", "shufflenet_v2"])
def test_every_backbone_is_exported(name: str, tmp_path: Path) -> None:
    model = build_detector(name, 64, 2, SETTINGS, Weights("none"), 0)
    assert export_detector(model, SETTINGS, tmp_path / "model.onnx") < 1e-4
