"""Each backbone on its way from training to an answer."""

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from components.bundle import BUNDLE_FILE, KNOWN_IMAGE_FILE, MODEL_FILE, Bundle, file_digest, write_bundle
from components.endpoint.files import WantedModel
from components.imaging import decode, preprocess, probabilities
from components.models.backbones import BACKBONES, names
from components.models.classifier import build_classifier
from components.models.export import export_onnx
from components.models.weights import Weights, input_of
from components.settings import TrainingSettings
from components.training.data import Part, TrainingData
from components.training.fit import Fit
from components.training.ranks import Ranks
from serving.loading import load_model

MODEL = "confluence-single-stack"


def pictures(size: int, count: int, seed: int) -> Part:
    rng = np.random.default_rng(seed)
    return Part.of(
        rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8), [1 + number % 4 for number in range(count)]
    )


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (90, 110, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_a_backbone_is_trained_exported_and_served(name: str, make_bundle, tmp_path: Path) -> None:
    size = max(64, BACKBONES[name].least_size)
    settings = TrainingSettings(
        backbone=name, weights="none", image_size=size, planes="rgb", equalisation="clahe", epochs=1, batch_size=4
    )
    prep = input_of(settings, Weights("none"))
    model = build_classifier(name, settings.dropout, Weights("none"), seed=0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    data = TrainingData(pictures(size, 8, 0), pictures(size, 4, 1))
    fit = Fit(model, data, settings, 1e-4, prep, Ranks(0, 1, torch.device("cpu")), pretrained=False)
    model.load_state_dict(fit.run().state)
    learnt = [key for key, value in model.named_parameters() if not torch.equal(value, before[key])]
    assert len(learnt) > 0.9 * len(list(model.parameters())), "training reaches every layer"

    make_bundle(tmp_path)  # of a tiny network, whose place this one takes
    assert export_onnx(model, size, tmp_path / MODEL_FILE) < 1e-4
    exported = [value.name for value in onnx.load(tmp_path / MODEL_FILE).graph.initializer]
    assert any(value.startswith("features.") for value in exported)
    assert not any("aux" in value.lower() for value in exported), "an auxiliary classifier is for training alone"
    known = expected(model, (tmp_path / KNOWN_IMAGE_FILE).read_bytes(), prep)
    fields = Bundle.model_validate_json((tmp_path / BUNDLE_FILE).read_bytes()).model_dump() | {
        "backbone": name,
        "preprocessing": prep,
        "known": {"probabilities": tuple(known.tolist())},
        "files": {each: file_digest(tmp_path / each) for each in (MODEL_FILE, KNOWN_IMAGE_FILE)},
    }
    digest = write_bundle(tmp_path, Bundle(**fields))
    served = load_model(MODEL, WantedModel(str(tmp_path), "1", digest), threads=1)
    images = (encoded(1), encoded(2))
    answers = served.infer([served.prepare(decode(image), None) for image in images])
    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_allclose(list(answer.probabilities.values()), expected(model, image, prep), atol=1e-4)


@torch.no_grad()
def expected(model: torch.nn.Module, image: bytes, prep) -> np.ndarray:
    logits = model.eval()(torch.from_numpy(preprocess(image, prep)[np.newaxis]))
    return probabilities(logits.numpy())[0]
