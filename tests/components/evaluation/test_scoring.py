import numpy as np
import onnx
import pytest

from components.bundle import BUNDLE_FILE
from components.culture import ConfluenceClass, Modality
from components.datasets.manifest import ImageRecord
from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.errors import DataError, IntegrityError, TrainingError
from components.evaluation import steps
from components.evaluation.scoring import Network, labels, majority_class, score_bundle
from components.imaging import Preprocessing, preprocess, probabilities
from components.storage import open_store

SMALL = Preprocessing(size=32)


@pytest.fixture(scope="module")
def bundle(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    steps.evaluate(
        world.store,
        world.split_id,
        world.model_dir,
        None,
        folder,
        world.home,
        modality=Modality.SINGLE_STACK,
        data_version=world.version,
        lineage="main",
    )
    return folder


def record(path, label=None):
    return ImageRecord(path=path, sha256="0" * 64, size=1, confluence_class=label and ConfluenceClass(label))


def test_a_bundle_is_scored_as_serving_would_answer(world, bundle):
    test = score_bundle(world.store, world.split_id, bundle, world.home / "cache")
    repository = DataRepository(open_store(world.store))
    records = load_split(repository, world.split_id)["test"]
    assert test.paths == tuple(each.path for each in records)
    assert test.groups == tuple(each.vessel for each in records)
    assert set(test.slices["source"]) == {"north", "south"} and set(test.slices["donor"]) == {""}
    network = Network(bundle / "model.onnx", SMALL)
    for row in (0, len(test) - 1):
        logits = network.logits_of(preprocess(repository.image(records[row]), SMALL)[np.newaxis])
        expected = probabilities(logits, test.temperature)[0]
        assert test.probabilities[row] == pytest.approx(expected, abs=1e-6)


def test_other_parts_can_be_scored_too(world, bundle):
    train = score_bundle(world.store, world.split_id, bundle, world.home / "cache", part="train")
    test = score_bundle(world.store, world.split_id, bundle, world.home / "cache")
    assert len(train) > len(test) and not set(train.paths) & set(test.paths)


def test_an_altered_bundle_is_not_scored(world, bundle, tmp_path):
    for file in bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.onnx").write_bytes((bundle / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match=f"but {BUNDLE_FILE} records"):
        score_bundle(world.store, world.split_id, tmp_path, world.home / "cache")


def test_batches_do_not_change_the_answers(world):
    network = Network(world.model_dir / "model.onnx", SMALL)
    images = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    one_by_one = np.vstack([network.logits(images[row : row + 1]) for row in range(70)])
    np.testing.assert_allclose(network.logits(images), one_by_one, atol=1e-4)


def test_files_that_are_no_such_model_are_refused(world, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(IntegrityError, match="is not a model that ONNX Runtime can load"):
        Network(path, SMALL)
    model = onnx.load(world.model_dir / "model.onnx")
    model.graph.output[0].name = model.graph.node[2].output[0] = "scores"
    onnx.save(model, path)
    with pytest.raises(IntegrityError, match=r"\['images', 'scores'\], not \['images', 'logits'\]"):
        Network(path, SMALL)


def test_answers_that_are_no_numbers_are_refused(world):
    network = Network(world.model_dir / "model.onnx", SMALL)
    with pytest.raises(TrainingError, match="infinite or undefined"):
        network.logits_of(np.full((1, 3, 32, 32), np.inf, np.float32))


def test_the_majority_class_is_that_of_training():
    train = [record(str(row), label) for row, label in enumerate([3, 3, 2, 2, 4])]
    assert majority_class({"train": train, "test": [record("t", 1)]}) == 2


def test_unlabelled_images_cannot_be_scored():
    with pytest.raises(DataError, match=r"image 'x\.png' has no confluence class"):
        labels([record("a.png", 1), record("x.png")])
