import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components import tracking
from components.culture import Modality
from components.datasets import steps as data_steps
from components.patience import RUN_VARIABLE
from components.settings import DataSettings, SplitSettings
from tests.servers import MlflowServer


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with all its tables and no content, to be copied: making one takes a second."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    tracking.client(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_uri(empty_mlflow: Path, tmp_path: Path) -> str:
    """MLflow in a file, as a laptop has it."""
    path = tmp_path / "home" / "mlflow.db"
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile(empty_mlflow, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def mlflow_server(empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on loopback that passes artifacts on."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_mlflow, folder / "mlflow.db")
    server = MlflowServer(folder)
    server.start()
    yield server.uri
    server.stop()


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.slow)])
def mlflow_uri(request: pytest.FixtureRequest) -> str:
    """Each kind of MLflow in turn; a server keeps what earlier tests wrote."""
    uri: str = request.getfixturevalue("sqlite_uri" if request.param == "sqlite" else "mlflow_server")
    return uri


@pytest.fixture
def model_name() -> str:
    """A registered model that no other test uses."""
    return f"confluence-{secrets.token_hex(4)}"


@pytest.fixture(autouse=True)
def outside_any_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tracking.RUN_ID_VARIABLE, raising=False)
    monkeypatch.delenv(RUN_VARIABLE, raising=False)


@dataclass(frozen=True)
class Cultures:
    """A split of few, small, easy images: the share of bright squares is the confluence."""

    store: str
    split_id: str
    home: Path


@pytest.fixture(scope="session")
def cultures(tmp_path_factory: pytest.TempPathFactory) -> Cultures:
    """A store with a data version and its split: 24 images to train on, 8 to validate, 8 to test."""
    folder = tmp_path_factory.mktemp("cultures")
    source, store, home = folder / "source", str(folder / "store"), folder / "home"
    rng = np.random.default_rng(0)
    for label, share in enumerate((0.1, 0.4, 0.65, 0.95), start=1):
        (source / str(label)).mkdir(parents=True)
        for number in range(10):
            squares = np.kron(rng.random((10, 10)) < share, np.ones((4, 4)))
            grey = (60 + 120 * squares + rng.normal(0, 8, squares.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(grey).save(source / str(label) / f"{number}.png")
    version = data_steps.snapshot(str(source), store, DataSettings(), Modality.SINGLE_STACK, home)["data_version"]
    split_id = data_steps.split(store, version, "cultures", SplitSettings())["split_id"]
    return Cultures(store, split_id, home)


@pytest.fixture
def tiny_backbone(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a registered backbone that trains in milliseconds, in one thread."""
    import torch
    from torch import nn

    from components.models.backbones import BACKBONES, Backbone

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU())

    monkeypatch.setitem(BACKBONES, "tiny", Backbone(build, channels=16))
    # Networks so small are slower in several threads, which wait for one another.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    return "tiny"


@pytest.fixture
def tiny_pyramid(tiny_backbone: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a registered backbone that a detector can be made of."""
    from torch import nn

    from components.models.backbones import BACKBONES, Backbone
    from components.models.pyramid import PYRAMIDS, Pyramid

    def build() -> nn.Module:
        first = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.BatchNorm2d(8), nn.ReLU())
        others = [nn.Sequential(nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU()) for _ in range(3)]
        return nn.Sequential(first, *others)

    monkeypatch.setitem(BACKBONES, tiny_backbone, Backbone(build, channels=8))
    monkeypatch.setitem(PYRAMIDS, tiny_backbone, Pyramid(lambda network: [[stage] for stage in network], (8, 8, 8, 8)))
    return tiny_backbone
