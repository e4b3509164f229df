from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from components.bundle import MODEL_FILE, read_any_bundle
from components.endpoint.files import WantedModel
from components.endpoint.releases import RELEASE_FILE, Address, address_of, fetch, publish, read_release
from components.errors import InputError, IntegrityError, ObjectNotFound
from components.storage import LocalStore, ObjectStore, open_store

SINGLE, CELLS = "confluence-single-stack", "abnormal-cells"


@pytest.fixture
def models(
    tmp_path: Path, make_bundle: Callable[..., str], make_detector: Callable[..., str]
) -> dict[str, WantedModel]:
    return {
        SINGLE: WantedModel(str(tmp_path / "single"), "3", make_bundle(tmp_path / "single")),
        CELLS: WantedModel(str(tmp_path / "cells"), "7", make_detector(tmp_path / "cells")),
    }


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return LocalStore(tmp_path / "store")


def keys(store: ObjectStore) -> dict[str, str]:
    return {info.key: info.fingerprint for info in store.list()}


def test_what_is_released_is_fetched_elsewhere_whole(
    models: dict[str, WantedModel], store: ObjectStore, tmp_path: Path
) -> None:
    address = publish(store, models)
    assert address_of(address.uri) == address
    fetched = fetch(address.uri, tmp_path / "elsewhere")
    assert {name: (each.version, each.digest) for name, each in fetched.items()} == {
        name: (each.version, each.digest) for name, each in models.items()
    }
    for each in fetched.values():
        read_any_bundle(Path(each.path), each.digest)


def test_a_release_is_fetched_from_s3(models: dict[str, WantedModel], s3_uri: str, tmp_path: Path) -> None:
    address = publish(open_store(s3_uri), models)
    assert address.uri.startswith(f"{s3_uri}/releases/")
    assert set(fetch(address.uri, tmp_path / "elsewhere")) == set(models)


def test_the_same_models_are_the_same_release_and_nothing_is_sent_again(
    models: dict[str, WantedModel], store: ObjectStore
) -> None:
    first, before = publish(store, models), keys(store)
    assert publish(store, dict(reversed(models.items()))) == first
    assert keys(store) == before
    changed = {**models, SINGLE: WantedModel(models[SINGLE].path, "4", models[SINGLE].digest)}
    assert publish(store, changed).digest != first.digest


@pytest.mark.parametrize("name", [RELEASE_FILE, MODEL_FILE, "bundle.json"])
def test_a_release_that_was_altered_in_the_store_is_refused(
    models: dict[str, WantedModel], store: ObjectStore, tmp_path: Path, name: str
) -> None:
    address = publish(store, models)
    for key in keys(store):
        if key.endswith(name):
            store.write(key, store.read(key).replace(b"n", b"m", 1))
    with pytest.raises(IntegrityError, match="has digest"):
        fetch(address.uri, tmp_path / "elsewhere")


def test_a_bundle_that_is_not_what_the_registry_says_is_not_released(
    models: dict[str, WantedModel], store: ObjectStore
) -> None:
    wrong = {SINGLE: WantedModel(models[SINGLE].path, "3", "e" * 64)}
    with pytest.raises(IntegrityError, match="fetch it again"):
        publish(store, wrong)
    assert not [key for key in keys(store) if key.endswith(RELEASE_FILE)]


def test_a_digest_that_is_none_does_not_become_a_path(store: ObjectStore) -> None:
    content = b'{"models":{"m":{"version":"1","digest":"../../etc"}},"format":"mscflow-release/1"}'
    digest = sha256(content).hexdigest()
    store.write(f"releases/{digest}/{RELEASE_FILE}", content)
    with pytest.raises(IntegrityError, match=r"gives m the digest '\.\./\.\./etc'"):
        read_release(Address(store.uri, digest))


def test_what_is_no_release_is_told(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'s3://bucket/store' names no release"):
        fetch("s3://bucket/store", tmp_path)
    with pytest.raises(ObjectNotFound):
        fetch(Address(store.uri, "a" * 64).uri, tmp_path)
