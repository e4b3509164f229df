"""Models on the shelf of an object store, and what is made of one that was altered there, or here."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from components.bundle import BUNDLE_FILE, MODEL_FILE, read_any_bundle
from components.errors import IntegrityError
from components.shelf import bring_model, bundle_prefix, fetch_bundle, keep_bundle, keep_weights, weights_key
from components.storage import ObjectStore, open_store

WEIGHTS = b"not read here"


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path / "store" if request.param == "folder" else request.getfixturevalue("s3_uri"))


@pytest.fixture
def digest(store: ObjectStore, make_bundle: Any, tmp_path: Path) -> str:
    """Digest of a model on the shelf, with weights."""
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    made: str = make_bundle(tmp_path / "made", weights=sha256)
    (tmp_path / "fitted").write_bytes(WEIGHTS)
    assert keep_bundle(store, tmp_path / "made") == made
    keep_weights(store, tmp_path / "fitted", sha256)
    return made


def test_a_home_that_knows_nothing_is_brought_the_model(store: ObjectStore, digest: str, tmp_path: Path):
    folder = bring_model(store.uri, digest, tmp_path / "home")
    bundle, _ = read_any_bundle(folder, digest)
    assert (tmp_path / "home" / "weights" / f"{bundle.weights}.safetensors").read_bytes() == WEIGHTS


def test_what_is_at_hand_is_not_asked_for(store: ObjectStore, digest: str, tmp_path: Path):
    folder = bring_model(store.uri, digest, tmp_path / "home")
    for info in list(store.list()):
        store.delete(info.key)
    assert bring_model(store.uri, digest, tmp_path / "home") == folder


def test_what_was_altered_at_hand_is_fetched_again(store: ObjectStore, digest: str, tmp_path: Path):
    folder = bring_model(store.uri, digest, tmp_path / "home")
    (folder / MODEL_FILE).write_bytes(b"another")
    (weights,) = (tmp_path / "home" / "weights").iterdir()
    weights.write_bytes(b"others")
    read_any_bundle(bring_model(store.uri, digest, tmp_path / "home"), digest)
    assert weights.read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", [MODEL_FILE, BUNDLE_FILE])
def test_what_was_altered_on_the_shelf_is_refused(store: ObjectStore, digest: str, name: str, tmp_path: Path):
    store.write(f"{bundle_prefix(digest)}/{name}", b"{}")
    with pytest.raises(IntegrityError, match=f"{name} has digest"):
        fetch_bundle(store, digest, tmp_path / "models")
    assert not list((tmp_path / "models").iterdir()), "nothing half fetched stays"


def test_weights_that_were_altered_on_the_shelf_are_refused(store: ObjectStore, digest: str, tmp_path: Path):
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    store.write(weights_key(sha256), b"others")
    with pytest.raises(IntegrityError, match=r"safetensors has digest .* delete it there"):
        bring_model(store.uri, digest, tmp_path / "home")


def test_what_is_not_on_the_shelf_is_named(store: ObjectStore, tmp_path: Path):
    with pytest.raises(IntegrityError, match=f"has no bundles/{'a' * 64}/bundle.json"):
        fetch_bundle(store, "a" * 64, tmp_path / "models")
