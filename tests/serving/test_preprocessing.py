"""What a network is shown: the same, to the last bit, in training, in evaluation and behind the endpoint."""

import asyncio
import dataclasses
import hashlib
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from components.bundle import MODEL_FILE
from components.culture import ABNORMAL_MODEL
from components.datasets.arrays import load_arrays
from components.datasets.blobs import blob_key
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.endpoint.files import WantedModel
from components.evaluation.scoring import Network
from components.imaging import Preprocessing
from components.settings import DetectionSettings, TrainingSettings
from components.storage import open_store
from components.training.data import Part, TrainingData
from components.training.detection import Eye
from components.training.fit import Fit
from components.training.ranks import Ranks
from serving.loading import load_model
from serving.model import ServedModel
from serving.pictures import Limits
from serving.protocol import V1Body
from serving.workers import Workers
from tests.conftest import SIDE, write_tiny_bundle, write_tiny_detector
from tests.files import READ, encoded, picture
from tests.serving.conftest import MODEL, b64

LIMITS = Limits(image_bytes=1_000_000, pixels=1_000_000, images=100)
COLOURS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
WAYS = [
    Preprocessing(size=SIDE, planes=planes, equalisation=equalisation, clumps=clumps, **COLOURS)
    for planes, equalisation, clumps in product(("rgb", "texture"), ("none", "equalise", "clahe"), ("kept", "masked"))
]
NAMES = [f"{way.planes} {way.equalisation} {way.clumps}" for way in WAYS]


def rotated(orientation: int, form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(orientation), form, exif=exif.tobytes())


def transparent_palette() -> bytes:
    image = picture(20).quantize(64)
    image.info["transparency"] = bytes(range(64))
    return encoded(image, "PNG")


FILES: dict[str, bytes] = {
    **{name: make() for name, make in READ.items()},
    **{f"rotated {number}": rotated(number, "JPEG" if number % 2 else "PNG") for number in range(2, 9)},
    "palette, transparent": transparent_palette(),
    "grey with alpha": encoded(picture(21).convert("LA"), "PNG"),
    "one bit": encoded(picture(22).convert("1"), "TIFF"),
    "16 bits, other byte order": encoded(Image.fromarray(np.arange(4800, dtype=">u2").reshape(60, 80)), "TIFF"),
}


class Seen:
    """A session of ONNX Runtime that keeps what it is given."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs: list[NDArray[np.float32]] = []

    def run(self, names: Any, feed: dict[str, NDArray[np.float32]]) -> Any:
        self.inputs += [array.copy() for array in feed.values()]
        return self._session.run(names, feed)

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def all(self) -> NDArray[np.float32]:
        return np.concatenate(self.inputs)


class SeenByTraining(nn.Module):
    """A network that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.inputs: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.inputs.append(images.clone())
        return torch.zeros(len(images), 4)


@pytest.fixture
def loaded(tmp_path: Path) -> Any:
    """Gives ``load``, which reads the files as a training step does: from a store, through the cache."""
    repository = DataRepository(open_store(tmp_path / "store"))
    records = []
    for name, data in FILES.items():
        digest = hashlib.sha256(data).hexdigest()
        repository.store.ensure(blob_key(digest), data, len(data))
        records.append(ImageRecord(path=name, sha256=digest, size=len(data)))

    def load(prep: Preprocessing) -> NDArray[np.uint8]:
        first = load_arrays(repository, records, prep, tmp_path / "cache")
        kept = load_arrays(repository, records, prep, tmp_path / "cache")
        assert np.array_equal(first, kept)
        return kept

    return load


def by_training(images: NDArray[np.uint8], prep: Preprocessing) -> NDArray[np.float32]:
    """What a fit shows its network."""
    part, network = Part.of(images, [1] * len(images)), SeenByTraining()
    ranks = Ranks(0, 1, torch.device("cpu"))
    fit = Fit(network, TrainingData(part, part), TrainingSettings(), 1e-3, prep, ranks, pretrained=False)
    fit.logits(part)
    return torch.cat(network.inputs).numpy()


def by_training_of_a_detector(images: NDArray[np.uint8], prep: Preprocessing) -> NDArray[np.float32]:
    eye = Eye(SeenByTraining(), prep, DetectionSettings())
    return eye.normalised(eye.scaled(torch.from_numpy(images))).numpy()


def by_evaluation(images: NDArray[np.uint8], prep: Preprocessing, folder: Path) -> NDArray[np.float32]:
    network = Network(folder / MODEL_FILE, prep)
    network._session = seen = Seen(network._session)
    network.logits(images)
    return seen.all()


def by_the_endpoint(name: str, folder: Path, digest: str) -> NDArray[np.float32]:
    """What the endpoint shows its network, of one request with all files."""
    model = load_model(name, WantedModel(str(folder), "1", digest), threads=1)
    seen = Seen(model.session)
    workers = Workers(threads=1, queue=1)
    served = ServedModel(name, workers, LIMITS)
    served.current = dataclasses.replace(model, session=seen)
    body = json.dumps({"instances": [{"b64": b64(data)} for data in FILES.values()]}).encode()
    asyncio.run(served.predict(V1Body(body)))
    workers.close()
    return seen.all()


@pytest.mark.parametrize("prep", WAYS, ids=NAMES)
def test_a_classifier_is_shown_the_same_everywhere(loaded: Any, tmp_path: Path, prep: Preprocessing) -> None:
    # Of weight 0, so that the bundle's known answer is that of any preprocessing.
    digest = write_tiny_bundle(tmp_path / "model", weight=0, preprocessing=prep)
    images = loaded(prep)
    served = by_the_endpoint(MODEL, tmp_path / "model", digest)
    assert served.shape == (len(FILES), 3, SIDE, SIDE)
    assert served.dtype == np.float32
    assert len(np.unique(served.reshape(len(FILES), -1), axis=0)) == len(FILES), "no file is mistaken for another"
    np.testing.assert_array_equal(served, by_training(images, prep))
    np.testing.assert_array_equal(served, by_evaluation(images, prep, tmp_path / "model"))


@pytest.mark.parametrize("prep", WAYS[:4], ids=NAMES[:4])
def test_a_detector_is_shown_the_same_everywhere(loaded: Any, tmp_path: Path, prep: Preprocessing) -> None:
    digest = write_tiny_detector(tmp_path / "model", weight=0, preprocessing=prep)
    served = by_the_endpoint(ABNORMAL_MODEL, tmp_path / "model", digest)
    np.testing.assert_array_equal(served, by_training_of_a_detector(loaded(prep), prep))
