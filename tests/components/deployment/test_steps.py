"""The rollout steps between a real registry and a real endpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.bundle import KnownAnswer
from components.deployment import local, steps
from components.errors import DeploymentError, EndpointUnavailable, InputError, UnfitModel
from components.registry.crown import PREDECESSOR_TAG
from components.registry.versions import Alias, Registry
from components.settings import ServingSettings

MODEL = "confluence-single-stack"
WRONG = KnownAnswer(probabilities=(0.7, 0.1, 0.1, 0.1))


@pytest.fixture
def release(sqlite_uri: str, tmp_path: Path, make_bundle: Callable[..., str]) -> Callable[..., str]:
    """Registers a tiny bundle and makes it the champion, as a promotion does."""
    registry = Registry(sqlite_uri)

    def make(**options: Any) -> str:
        folder = tmp_path / "trained"
        make_bundle(folder, **options)
        version = registry.register(folder).version
        before = registry.champion(MODEL)
        registry.tag(version, {PREDECESSOR_TAG: before.version if before else None})
        registry.set_alias(version, Alias.CHAMPION)
        return version.version

    return make


def champion(uri: str) -> str | None:
    found = Registry(uri).champion(MODEL)
    return found.version if found else None


def test_a_champion_is_deployed_and_verified_and_an_unfit_one_loses_its_crown(
    home: Path, sqlite_uri: str, free_ports: ServingSettings, release: Callable[..., str], png: Callable[..., bytes]
) -> None:
    first = release(favour=1)
    done = steps.deploy(MODEL, "champion", sqlite_uri, home, free_ports)
    assert (done["model"], done["version"], done["started"], done["swapped"]) == (MODEL, first, True, False)
    assert done["data_version"] == "d" * 64
    assert Path(home / "models" / done["digest"] / "model.onnx").is_file()
    elsewhere = home.with_name("a step's own home")
    verified = steps.verify_known(done["url"], MODEL, done["digest"], sqlite_uri, elsewhere)
    assert (verified["class"], verified["model_version"]) == (1, first)
    assert Path(verified["image"]).name == "known.png"
    with pytest.raises(InputError, match=f"no version of {MODEL} with digest eeeeeeeeeeee"):
        steps.verify_known(done["url"], MODEL, "e" * 64, sqlite_uri, elsewhere)

    again = steps.deploy(MODEL, first, sqlite_uri, home, free_ports)
    assert (again["started"], again["swapped"], again["pid"]) == (False, False, done["pid"])

    second = release(favour=2)
    swapped = steps.deploy(MODEL, "champion", sqlite_uri, home, free_ports)
    assert (swapped["version"], swapped["swapped"], swapped["pid"]) == (second, True, done["pid"])
    with pytest.raises(DeploymentError, match=f"is answered by version {second}"):
        steps.verify_known(done["url"], MODEL, done["digest"], sqlite_uri, home)

    release(favour=3, known=WRONG)
    with pytest.raises(UnfitModel) as caught:
        steps.deploy(MODEL, "champion", sqlite_uri, home, free_ports)
    assert f"version {second} serves on; champion is version {second}" in str(caught.value)
    assert champion(sqlite_uri) == second
    image = home / "image.png"
    image.write_bytes(png())
    answer = steps.verify(swapped["url"], MODEL, image, swapped["digest"])
    assert (answer["model_version"], answer["class"]) == (second, 2)


def test_a_first_model_that_is_unfit_leaves_no_champion(
    home: Path, sqlite_uri: str, free_ports: ServingSettings, release: Callable[..., str]
) -> None:
    release(known=WRONG)
    with pytest.raises(UnfitModel, match=f"no version of {MODEL} served before; the registry has no champion"):
        steps.deploy(MODEL, "champion", sqlite_uri, home, free_ports)
    assert champion(sqlite_uri) is None
    assert local.status(home) == {"running": False}


def test_a_machine_that_cannot_start_a_server_costs_no_crown(
    home: Path, sqlite_uri: str, free_ports: ServingSettings, release: Callable[..., str]
) -> None:
    version = release()
    (local.folder_of(home) / "server.log").mkdir()
    with pytest.raises(DeploymentError, match="ended as it started"):
        steps.deploy(MODEL, "champion", sqlite_uri, home, free_ports)
    nowhere = free_ports.model_copy(update={"host": "192.0.2.1", "port": 8080})
    with pytest.raises(EndpointUnavailable, match="Cannot assign"):
        steps.deploy(MODEL, "champion", sqlite_uri, home, nowhere)
    assert champion(sqlite_uri) == version


def test_champions_are_fetched_to_be_served(home: Path, sqlite_uri: str, release: Callable[..., str]) -> None:
    with pytest.raises(InputError, match="holds no champion to serve; 'mscflow run'"):
        steps.champions(sqlite_uri, home)
    release(favour=1)
    version = release(favour=2)
    found = steps.champions(sqlite_uri, home)
    assert {name: wanted.version for name, wanted in found.items()} == {MODEL: version}
    assert (Path(found[MODEL].path) / "bundle.json").is_file()
