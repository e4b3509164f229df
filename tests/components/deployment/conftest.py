from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from components.deployment import local
from components.endpoint.files import WantedModel
from components.settings import ServingSettings

MODEL = "confluence-single-stack"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose endpoint is stopped in the end."""
    yield tmp_path / "home"
    local.stop(tmp_path / "home")


@pytest.fixture
def free_ports() -> ServingSettings:
    """Settings that let the system pick the ports."""
    return ServingSettings(port=0, grpc_port=0, start_timeout=60)


@pytest.fixture
def wanted(tmp_path: Path, make_bundle: Callable[..., str]) -> Callable[..., dict[str, WantedModel]]:
    """Writes a tiny bundle and asks for it under its name."""

    def make(version: str, name: str = MODEL, **options: object) -> dict[str, WantedModel]:
        folder = tmp_path / "bundles" / f"{name}-{version}"
        digest = make_bundle(folder, model_name=name, **options)
        return {name: WantedModel(str(folder), version, digest)}

    return make
