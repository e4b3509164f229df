import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from components.bundle import Bundle, KnownAnswer, file_digest, write_bundle
from components.culture import CLASSES, ConfluenceClass, Modality
from components.datasets.source import SourceImage
from components.datasets.splits import make_split
from components.datasets.versions import DataRepository
from components.evaluation.steps import evaluate
from components.imaging import Preprocessing
from components.settings import SplitSettings
from components.storage import open_store

# Pictures come in eight greys, two a class, so that a model can be made to err on any eighth of them.
GREYS = tuple(16 + 32 * level for level in range(8))
TRUTH = (1, 1, 2, 2, 3, 3, 4, 4)
SIDE = 32

BundleOf = Callable[..., Path]
NetworkOf = Callable[[tuple[int, ...], Path], None]


def tiny_network(answers: tuple[int, ...], path: Path) -> None:
    """Write a network that answers ``answers[i]`` for a picture of mean grey ``GREYS[i]``."""
    centres = np.array(GREYS, np.float32) / 127.5 - 1
    # The nearest centre has the highest score; each score then counts for its answer.
    weights = {
        "to_centre": np.repeat(2 * centres[None] / 3, 3, axis=0) * 1000,
        "offset": -(centres**2) * 1000,
        "to_class": np.array([[float(answer == int(each)) for each in CLASSES] for answer in answers]),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "to_centre", "offset"], ["distances"]),
        helper.make_node("Softmax", ["distances"], ["nearest"]),
        helper.make_node("MatMul", ["nearest", "to_class"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    onnx.save(model, path)


@pytest.fixture(scope="session", name="tiny_network")
def tiny_network_fixture() -> Callable[[tuple[int, ...], Path], None]:
    """Gives ``tiny_network``."""
    return tiny_network


@pytest.fixture
def bundle_of(tmp_path: Path, model_name: str, data: "Data") -> BundleOf:
    """Write a bundle; models that give the same answers are the same bytes."""

    def make(
        answers: tuple[int, ...] = TRUTH,
        *,
        name: str = model_name,
        data_version: str = "d" * 64,
        split_id: str = data.first_split,
        note: str = "tiny",
    ) -> Path:
        folder = tmp_path / f"bundle-{''.join(map(str, answers))}-{note}"
        folder.mkdir(exist_ok=True)
        tiny_network(answers, folder / "model.onnx")
        Image.new("RGB", (SIDE, SIDE), (GREYS[0],) * 3).save(folder / "known.png")
        (folder / "evidence.json").write_text("{}")
        bundle = Bundle(
            model_name=name,
            modality=Modality.SINGLE_STACK,
            backbone=note,
            classes=tuple(each.decision for each in CLASSES),
            preprocessing=Preprocessing(size=SIDE),
            temperature=0.3,  # sure of nine answers in ten
            min_confidence=0.3,
            known=KnownAnswer(probabilities=(0.25, 0.25, 0.25, 0.25)),
            data_version=data_version,
            split_id=split_id,
            code_version="0",
            created=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
            metrics={"accuracy": sum(a == t for a, t in zip(answers, TRUTH, strict=True)) / 8, "n": 16.0},
            files={path.name: file_digest(path) for path in folder.iterdir() if path.name != "bundle.json"},
        )
        write_bundle(folder, bundle)
        return folder

    return make


class Data(NamedTuple):
    store: Path
    first: str
    first_split: str
    second: str
    second_split: str


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Two data versions of one lineage, the second with six vessels more; eight greys a vessel."""
    folder = tmp_path_factory.mktemp("data")
    repository = DataRepository(open_store(folder / "store"))
    splits = SplitSettings(test_fraction=0.34)
    found = []
    for vessels in (range(6), range(6, 12)):
        images = draw_vessels(folder / "images", vessels)
        taken = repository.snapshot(open_store(folder / "images"), images, ref="line", message="", extend=True)
        found += [taken.version, make_split(repository, taken.version, "line", splits).id]
    return Data(folder / "store", *found)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def candidate(tiny_network: NetworkOf, data: Data, home: Path, tmp_path: Path) -> Path:
    """What the evaluation step makes of a training's output."""
    trained = tmp_path / "trained"
    trained.mkdir()
    tiny_network((1, 1, 2, 2, 3, 3, 4, 3), trained / "model.onnx")
    epoch = {"epoch": 1, "train_loss": 1.0, "validation_loss": 0.9, "validation_accuracy": 0.8, "seconds": 1.0}
    about = {
        "history": [{**epoch, "learning_rate": 1e-3}],
        "best_epoch": 1,
        "learning_rate": 1e-3,
        "settings": {"backbone": "tiny"},
        "preprocessing": {"size": 32},
        "weights": {"source": "none"},
    }
    (trained / "training.json").write_text(json.dumps(about))
    bundle = tmp_path / "candidate"
    evaluate(
        str(data.store),
        data.first_split,
        trained,
        None,
        bundle,
        home,
        modality=Modality.SINGLE_STACK,
        data_version=data.first,
        lineage="line",
    )
    return bundle


def draw_vessels(folder: Path, vessels: range) -> list[SourceImage]:
    noise = np.random.default_rng(vessels.start)
    names = {}
    for vessel in vessels:
        for level, truth in enumerate(TRUTH):
            path = folder / f"v{vessel}" / f"{level}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = 16 + 32 * level + noise.integers(-4, 5, (32, 32, 1))
            Image.fromarray(np.repeat(grey, 3, axis=2).astype(np.uint8)).save(path)
            about = {"vessel": f"v{vessel}", "confluence_class": ConfluenceClass(truth)}
            names[path.relative_to(folder).as_posix()] = about
    stored = {info.key: info for info in open_store(folder).list()}
    return [SourceImage(key=key, info=stored[key], path=key, metadata=about) for key, about in names.items()]
