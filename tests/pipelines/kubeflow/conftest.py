from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.kubeflow import KubeflowSettings
from components.settings import Settings, load_settings
from pipelines.compile import compile_pipeline
from pipelines.kubeflow.connection import Connection
from pipelines.kubeflow.package import Package

from .server import Kubeflow


@pytest.fixture
def kubeflow() -> Iterator[Kubeflow]:
    """A server whose every request and answer is as KFP describes them."""
    with Kubeflow() as server:
        yield server
    assert server.complaints == []


@pytest.fixture
def settings_for() -> Callable[..., Settings]:
    """Gives settings that lead to a server."""

    def make(server: Kubeflow, **more: object) -> Settings:
        api = KubeflowSettings.model_validate({"url": server.url, "interval": 0.01, "patience": 10, **more})
        return load_settings(store="s3://cultures/store", data={"ref": "clinic"}, kubeflow=api.model_dump())

    return make


@pytest.fixture
def settings(kubeflow: Kubeflow, settings_for: Callable[..., Settings]) -> Settings:
    """Settings that lead to the server."""
    return settings_for(kubeflow)


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    """A connection to the server."""
    with Connection(settings.kubeflow) as made:
        yield made


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The compiled pipelines, with images by digest."""
    folder = tmp_path_factory.mktemp("compiled")
    images = {name: f"registry/{name}@sha256:{'0' * 64}" for name in ("train", "control")}
    paths = {name: folder / f"{name}.yaml" for name in ("train", "retrain")}
    for name, path in paths.items():
        compile_pipeline(name, path, images=images)
    return paths


@pytest.fixture(scope="session")
def train(compiled: dict[str, Path]) -> Package:
    """The training pipeline."""
    return Package.read(compiled["train"])
