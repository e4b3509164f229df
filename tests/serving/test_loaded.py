import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from components.bundle import MODEL_FILE, KnownAnswer
from components.endpoint.files import WantedModel
from components.endpoint.prediction import Prediction
from components.imaging import decode
from components.novelty import NOVELTY_FILE
from serving.classifier import Classifier
from serving.loaded import ModelRejected
from serving.loading import load_model
from tests.serving.conftest import add_novelty, swap_network

MODEL = "confluence-single-stack"


def load(wanted: WantedModel, name: str = MODEL) -> Classifier:
    model = load_model(name, wanted, threads=1)
    assert isinstance(model, Classifier)
    return model


def ask(model: Classifier, *images: bytes) -> list[Prediction]:
    return model.infer([model.prepare(decode(image), None) for image in images])


def test_an_answer_says_all_that_a_consumer_needs(
    wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    given = wanted("7", favour=3)
    (answer,) = ask(load(given), png())
    assert (answer.confluence_class, answer.name, answer.decision) == (3, "subculture", "subculture")
    assert answer.confidence == max(answer.probabilities.values()) == answer.probabilities["subculture"]
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert (answer.model, answer.model_version, answer.digest) == (MODEL, "7", given.digest)
    assert (answer.abstain, answer.reason, answer.data_version) == (False, None, "d" * 64)


def test_an_unsure_model_abstains_and_decides_nothing(
    wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    model = load(wanted("1", min_confidence=0.99))
    (answer,) = ask(model, png())
    assert (answer.abstain, answer.reason, answer.decision) == (True, "unsure", None)
    assert answer.confluence_class == 1


@pytest.fixture
def with_novelty(tmp_path: Path, make_bundle: Callable[..., str], png: Callable[..., bytes]) -> WantedModel:
    """A bundle whose model learnt from noise, and knows nothing else."""
    make_bundle(tmp_path, min_confidence=0.99)
    digest = add_novelty(tmp_path, [png(seed, size=(120, 150)) for seed in range(40)])
    return WantedModel(str(tmp_path), "1", digest)


def test_a_foreign_image_is_told_from_one_that_is_hard(with_novelty: WantedModel, png: Callable[..., bytes]) -> None:
    black, noise = ask(load(with_novelty), solid(0), png(99, size=(120, 150)))
    assert (black.abstain, black.reason, black.decision) == (True, "out_of_distribution", None)
    assert black.note == "the image is of one colour throughout and shows nothing"
    assert black.novelty is not None
    assert black.novelty > 1
    assert (noise.reason, noise.decision) == ("unsure", None)
    assert noise.novelty is not None
    assert noise.novelty <= 1
    assert noise.note is not None
    assert noise.note.startswith("the model is only ")


def solid(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (150, 120), (level,) * 3).save(file, "PNG")
    return file.getvalue()


def test_a_damaged_record_of_what_is_familiar_is_rejected(with_novelty: WantedModel) -> None:
    place = Path(with_novelty.path)
    (place / NOVELTY_FILE).write_bytes(b"PK nothing")
    with pytest.raises(ModelRejected, match=r"novelty\.npz has digest"):
        load(with_novelty)


def test_the_temperature_flattens_probabilities(wanted: Callable[..., WantedModel], png: Callable[..., bytes]) -> None:
    even = KnownAnswer(probabilities=(0.25,) * 4)
    hot = load(wanted("hot", weight=0, temperature=1e6, known=even))
    (answer,) = ask(hot, png())
    assert list(answer.probabilities.values()) == pytest.approx([0.25] * 4, abs=1e-5)


def test_a_batch_is_answered_as_its_images_one_by_one(
    wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    model = load(wanted("1", weight=5))
    images = [png(seed, size=(20 + seed, 30)) for seed in range(11)]
    together = ask(model, *images)
    alone = [ask(model, image)[0] for image in images]
    values = [list(answer.probabilities.values()) for answer in together]
    np.testing.assert_allclose(values, [list(answer.probabilities.values()) for answer in alone], atol=1e-6)
    assert len({row[0] for row in values}) == len(images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"known": KnownAnswer(probabilities=(0.7, 0.1, 0.1, 0.1))}, "known.png was answered"),
        ({"known": KnownAnswer(probabilities=(0.5, 0.5))}, "known.png was answered"),
        ({"classes": ("empty", "half", "full", "over")}, "its classes are empty, half, full, over, not seeding"),
        ({"model_name": "abnormal-cells"}, "it is a version of abnormal-cells, not of confluence-single-stack"),
        ({"frozen_batch": True}, "ONNX Runtime refuses .*model.onnx"),
    ],
)
def test_a_model_that_is_not_what_it_should_be_is_rejected(
    wanted: Callable[..., WantedModel], changes: dict[str, object], message: str
) -> None:
    given = wanted("2", **changes)
    with pytest.raises(ModelRejected, match=message):
        load(given)


def test_a_model_with_another_digest_than_the_registry_s_is_rejected(wanted: Callable[..., WantedModel]) -> None:
    given = wanted("2")
    with pytest.raises(ModelRejected, match="but the registry records"):
        load(WantedModel(given.path, "2", "0" * 64))


@pytest.mark.parametrize("name", ["model.onnx", "known.png", "bundle.json"])
def test_a_model_that_lost_a_file_is_rejected(wanted: Callable[..., WantedModel], name: str) -> None:
    given = wanted("2")
    (Path(given.path) / name).unlink()
    with pytest.raises(ModelRejected, match=name):
        load(given)


def with_opset(path: Path, version: int) -> bytes:
    network = onnx.load(path)
    network.opset_import[0].version = version
    return network.SerializeToString()


def with_one_output_less(path: Path) -> bytes:
    network = onnx.load(path)
    for constant in network.graph.initializer:
        array = onnx.numpy_helper.to_array(constant)
        constant.CopyFrom(onnx.numpy_helper.from_array(array[..., :3].copy(), constant.name))
    network.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    return network.SerializeToString()


def with_weights_that_are_no_numbers(path: Path) -> bytes:
    network = onnx.load(path)
    for constant in network.graph.initializer:
        array = onnx.numpy_helper.to_array(constant)
        constant.CopyFrom(onnx.numpy_helper.from_array(np.full_like(array, np.nan), constant.name))
    return network.SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: b"not a network", "ONNX Runtime refuses"),
        (lambda path: path.read_bytes()[:100], "ONNX Runtime refuses"),
        (lambda path: with_opset(path, 999), "ONNX Runtime refuses"),
        (with_one_output_less, r"answer of shape \(2, 3\), not \(2, 4\)"),
        (with_weights_that_are_no_numbers, r"known.png was answered \(nan, nan, nan, nan\) instead of"),
    ],
    ids=["noise", "cut short", "unknown opset", "three classes", "not a number"],
)
def test_a_network_that_does_not_run_or_fit_is_rejected(
    wanted: Callable[..., WantedModel], change: Callable[[Path], bytes], message: str
) -> None:
    given = wanted("2")
    with pytest.raises(ModelRejected, match=message):
        load(swap_network(given, change(Path(given.path) / MODEL_FILE)))
