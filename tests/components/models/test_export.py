from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from components.errors import TrainingError
from components.models.backbones import BACKBONES, Backbone
from components.models.classifier import build_classifier
from components.models.export import INPUT, OPSET, OUTPUT, export_onnx
from components.models.weights import Weights


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    body = nn.Sequential(nn.Conv2d(3, 7, 3, stride=2), nn.BatchNorm2d(7), nn.ReLU())
    monkeypatch.setitem(BACKBONES, "tiny", Backbone(lambda: body, channels=7))
    # Trained models lie in memory in this order, and in training mode.
    return build_classifier("tiny", 0.5, Weights("none"), seed=0).to(memory_format=torch.channels_last).train()


def test_one_valid_file_answers_any_batch_as_the_model_does(
    model: nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    difference = export_onnx(model, 48, tmp_path / "model.onnx")
    assert capfd.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert 0 <= difference < 1e-4
    written = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(written, full_check=True)
    assert {each.domain: each.version for each in written.opset_import}[""] == OPSET
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [(each.name, each.shape[1:]) for each in session.get_inputs()] == [(INPUT, [3, 48, 48])]
    assert [each.name for each in session.get_outputs()] == [OUTPUT]
    assert model.training, "the export must not change the model"
    model.eval()
    for count in (1, 5):
        images = torch.randn(count, 3, 48, 48)
        with torch.no_grad():
            expected = model(images).numpy()
        answer = session.run(None, {INPUT: images.numpy()})[0]
        np.testing.assert_allclose(answer, expected, atol=1e-4)


class Noisy(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        means = images.mean(dim=(2, 3))
        return means + torch.rand_like(means)


class OfOneSize(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)) + torch.ones(len(images), 1)


@pytest.mark.parametrize(("network", "complaint"), [(Noisy(), "answers otherwise"), (OfOneSize(), "batches of 2 only")])
def test_a_model_that_is_another_one_once_exported_is_refused(
    network: nn.Module, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=complaint):
        export_onnx(network, 32, tmp_path / "model.onnx")
