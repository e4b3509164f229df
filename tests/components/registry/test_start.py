import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from components import tracking
from components.bundle import WEIGHTS_FILE
from components.errors import IntegrityError
from components.models.champion import champion_weights
from components.registry.crown import PREDECESSOR_TAG
from components.registry.start import fetch_champion
from components.registry.versions import Alias, Registry
from components.shelf import bring_model

WEIGHTS = b"not read here"
NEW = "e" * 64


@pytest.fixture
def champion(tmp_path, make_bundle, mlflow_uri, model_name):
    """A registry whose champion has weights beside its bundle."""
    folder = tmp_path / "candidate"
    folder.mkdir()
    (folder / WEIGHTS_FILE).write_bytes(WEIGHTS)
    make_bundle(folder, model_name=model_name, weights=hashlib.sha256(WEIGHTS).hexdigest())
    registry = Registry(mlflow_uri, tmp_path / "home")
    version, _ = registry.register(folder)
    registry.set_alias(version, Alias.CHAMPION)
    return version


def test_the_champion_comes_with_its_weights_which_are_no_part_of_the_bundle(champion, mlflow_uri, tmp_path):
    home = tmp_path / "home"
    told = fetch_champion(champion.name, NEW, mlflow_uri, home)
    assert told == {"name": champion.name, "version": "1", "digest": champion.digest, "weights": True}
    weights = champion_weights(home, champion.digest)
    assert weights.path.read_bytes() == WEIGHTS
    assert weights.whole
    assert WEIGHTS_FILE not in {path.name for path in (home / "models" / champion.digest).iterdir()}
    assert fetch_champion(champion.name, NEW, mlflow_uri, home) == told, "what is there is not fetched again"


def test_a_home_of_its_own_finds_the_champion_on_the_shelf(champion, mlflow_uri, tmp_path):
    fetch_champion(champion.name, NEW, mlflow_uri, tmp_path / "home", str(tmp_path / "store"))
    other = tmp_path / "other"
    bring_model(str(tmp_path / "store"), champion.digest, other)
    assert champion_weights(other, champion.digest).path.read_bytes() == WEIGHTS


def test_without_a_champion_there_is_nothing_to_fetch(mlflow_uri, model_name, tmp_path):
    told = fetch_champion(model_name, NEW, mlflow_uri, tmp_path)
    assert (told["digest"], told["weights"]) == ("", False)


@pytest.mark.parametrize("mlflow_uri", ["sqlite"], indirect=True)
def test_weights_that_were_altered_in_the_registry_are_refused(champion, mlflow_uri, tmp_path):
    artifacts = tracking.client(mlflow_uri).get_run(champion.run_id).info.artifact_uri
    (path,) = Path(urlsplit(artifacts).path).rglob(WEIGHTS_FILE)
    path.write_bytes(b"others")
    with pytest.raises(IntegrityError, match=r"weights\.safetensors has digest"):
        fetch_champion(champion.name, NEW, mlflow_uri, tmp_path / "home")


def test_a_run_that_promoted_and_was_killed_starts_where_it_did(champion, make_bundle, mlflow_uri, tmp_path):
    registry = Registry(mlflow_uri, tmp_path / "home")
    make_bundle(tmp_path / "made", favour=2, model_name=champion.name, data_version=NEW)
    version, _ = registry.register(tmp_path / "made")
    registry.tag(version, {PREDECESSOR_TAG: champion.version})
    registry.set_alias(version, Alias.CHAMPION)
    assert fetch_champion(champion.name, NEW, mlflow_uri, tmp_path / "home")["digest"] == champion.digest
    assert fetch_champion(champion.name, "f" * 64, mlflow_uri, tmp_path / "home")["digest"] == version.digest
