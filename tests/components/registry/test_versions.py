import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from components import tracking
from components.bundle import read_bundle
from components.errors import InputError, IntegrityError, RegistryError
from components.registry.versions import Alias, Registry, named

BundleOf = Callable[..., Path]
WORSE = (1, 1, 2, 2, 3, 3, 4, 3)


@pytest.fixture
def registry(mlflow_uri: str, tmp_path: Path) -> Registry:
    return Registry(mlflow_uri, tmp_path)


def test_registers_a_bundle_and_gives_it_back_byte_for_byte(
    registry: Registry, bundle_of: BundleOf, model_name: str, tmp_path: Path
):
    bundle = bundle_of(split_id="5" * 64)
    version, created = registry.register(bundle)
    assert created
    assert (version.name, version.version, version.aliases) == (model_name, "1", (Alias.CHALLENGER,))
    assert (version.data_version, version.split_id, version.accuracy) == ("d" * 64, "5" * 64, 1.0)
    assert version.metrics == {"accuracy": 1.0, "n": 16.0}
    folder = registry.download(model_name, "challenger", tmp_path / "models")
    assert folder == tmp_path / "models" / version.digest
    for path in bundle.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert len(list(folder.iterdir())) == len(list(bundle.iterdir()))


def test_the_same_bytes_keep_their_version(registry: Registry, bundle_of: BundleOf, model_name: str):
    first = registry.register(bundle_of())
    again = registry.register(bundle_of())
    assert again == (first.version, False)
    other = registry.register(bundle_of(WORSE))
    assert (other.version.version, other.created) == ("2", True)
    assert [(each.version, each.aliases) for each in registry.versions(model_name)] == [
        ("2", (Alias.CHALLENGER,)),
        ("1", ()),
    ]
    assert registry.register(bundle_of()).version.aliases == (Alias.CHALLENGER,)


def test_registering_the_champion_again_makes_it_no_challenger(registry: Registry, bundle_of: BundleOf):
    champion = registry.register(bundle_of()).version
    registry.set_alias(champion, Alias.CHAMPION)
    challenger = registry.register(bundle_of(WORSE)).version
    assert registry.register(bundle_of()).version.aliases == (Alias.CHAMPION,)
    assert named(registry.versions(challenger.name), Alias.CHALLENGER) == challenger


def test_files_become_artifacts_of_the_given_run(registry: Registry, bundle_of: BundleOf):
    with tracking.tracked_run(registry.uri, "pipeline", kind="pipeline") as run:
        version = registry.register(bundle_of(), run_id=run.id).version
    client = tracking.client(registry.uri)
    kept = client.get_run(run.id)
    assert version.run_id == run.id
    assert kept.data.metrics == {"test/accuracy": 1.0, "test/n": 16.0}
    assert kept.data.tags["model_version"] == "1"
    (place,) = client.list_artifacts(run.id)
    names = {Path(each.path).name for each in client.list_artifacts(run.id, place.path)}
    assert names == {"bundle.json", "model.onnx", "known.png", "evidence.json"}


def test_only_what_the_bundle_names_is_kept(registry: Registry, bundle_of: BundleOf, tmp_path: Path):
    bundle = bundle_of()
    (bundle / "model.pkl").write_bytes(b"\x80\x04.")
    version = registry.register(bundle).version
    names = {path.name for path in registry.download(version.name, "1", tmp_path / "models").iterdir()}
    assert names == {"bundle.json", "model.onnx", "known.png", "evidence.json"}


def test_an_altered_bundle_is_not_registered(registry: Registry, bundle_of: BundleOf, model_name: str):
    bundle = bundle_of()
    (bundle / "model.onnx").write_bytes(b"other")
    with pytest.raises(IntegrityError, match=r"model\.onnx has digest"):
        registry.register(bundle)
    assert registry.versions(model_name) == []


class Killed(BaseException):
    """Stands for a process that ends at once."""


@pytest.mark.parametrize("call", ["log_artifact", "create_model_version", "set_registered_model_alias"])
def test_a_crash_in_a_registration_leaves_nothing_that_hinders_the_next(
    registry: Registry,
    bundle_of: BundleOf,
    model_name: str,
    tmp_path: Path,
    call: str,
    monkeypatch: pytest.MonkeyPatch,
):
    def killed(*_: object, **__: object) -> None:
        raise Killed

    client = tracking.client(registry.uri)
    with tracking.tracked_run(registry.uri, "pipeline", kind="pipeline") as run:
        with monkeypatch.context() as patch:
            patch.setattr(client, call, killed)
            with pytest.raises(Killed):
                registry.register(bundle_of(), run_id=run.id)
        registry.register(bundle_of(), run_id=run.id)
    (version,) = registry.versions(model_name)
    assert version.aliases == (Alias.CHALLENGER,)
    read_bundle(registry.download(model_name, version.version, tmp_path / "models"), version.digest)


def test_a_downloaded_bundle_is_fetched_once(
    registry: Registry, bundle_of: BundleOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    version = registry.register(bundle_of()).version
    folder = registry.download(version.name, "1", tmp_path / "models")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert registry.download(version.name, "1", tmp_path / "models") == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_damaged_local_copy_is_fetched_again(registry: Registry, bundle_of: BundleOf, tmp_path: Path):
    version = registry.register(bundle_of()).version
    folder = registry.download(version.name, "1", tmp_path / "models")
    (folder / "model.onnx").write_bytes(b"damaged")
    read_bundle(registry.download(version.name, "1", tmp_path / "models"), version.digest)


@pytest.mark.parametrize("file", ["model.onnx", "bundle.json", "known.png"])
def test_what_was_altered_in_the_registry_is_refused(
    registry: Registry, bundle_of: BundleOf, tmp_path: Path, file: str
):
    version = registry.register(bundle_of()).version
    altered = tmp_path / file
    altered.write_bytes((bundle_of() / file).read_bytes().replace(b"tiny", b"evil") + b" ")
    tracking.client(registry.uri).log_artifact(version.run_id, str(altered), version.source.rpartition("/")[2])
    with pytest.raises(IntegrityError, match=file):
        registry.download(version.name, "1", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_missing_artifacts_are_said_to_be_missing(sqlite_uri: str, bundle_of: BundleOf, tmp_path: Path):
    registry = Registry(sqlite_uri)
    version = registry.register(bundle_of()).version
    shutil.rmtree(tmp_path / "home" / tracking.ARTIFACTS_FOLDER)
    with pytest.raises(RegistryError, match=f"fetching {version.name} 1 from .* failed"):
        registry.download(version.name, "1", tmp_path / "models")


def test_a_version_that_others_registered_has_no_digest(
    registry: Registry, bundle_of: BundleOf, model_name: str, tmp_path: Path
):
    client = tracking.client(registry.uri)
    with tracking.tracked_run(registry.uri, "other", kind="other") as run:
        client.log_artifact(run.id, str(bundle_of() / "bundle.json"), "m")
        client.create_registered_model(model_name)
        client.create_model_version(model_name, f"{client.get_run(run.id).info.artifact_uri}/m", run.id)
    with pytest.raises(IntegrityError, match="no digest in the registry"):
        registry.download(model_name, "1", tmp_path / "models")


def test_unknown_names_list_the_known_ones(sqlite_uri: str, bundle_of: BundleOf, model_name: str):
    registry = Registry(sqlite_uri)
    with pytest.raises(InputError, match="holds no model 'confluence-x'; it holds none yet"):
        registry.show("confluence-x", "1")
    registry.register(bundle_of())
    with pytest.raises(InputError, match=f"it holds {model_name}"):
        registry.show("confluence-x", "1")
    with pytest.raises(InputError, match="no version or alias 'champion'; its versions are 1"):
        registry.show(model_name, "champion")
    with pytest.raises(InputError, match="no model 'it's'"):
        registry.show("it's", "1")


def test_models_are_listed_by_name_and_the_newest_first(sqlite_uri: str, bundle_of: BundleOf):
    registry = Registry(sqlite_uri)
    for answers in ((1,) * 8, (2,) * 8):
        registry.register(bundle_of(answers, name="b"))
    registry.register(bundle_of((3,) * 8, name="a"))
    listed = [(each.name, each.version, each.accuracy) for each in registry.versions()]
    assert listed == [("a", "1", 0.25), ("b", "2", 0.25), ("b", "1", 0.25)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_registry_is_bad_input(sqlite_uri: str, bundle_of: BundleOf, tmp_path: Path):
    (tmp_path / "home" / "mlflow.db").chmod(0o444)
    with pytest.raises(InputError, match="mend the disk"):
        Registry(sqlite_uri).register(bundle_of())
