"""Models on the shelf: bundles and weights in the object store, for those who know a digest and share no disk.

    bundles/<digest>/...             the files of a bundle
    weights/<SHA-256>.safetensors    what a training can go on from

A step of a pipeline finds the champion here, and a pod of the endpoint what it serves. Nothing is ever altered: what a
key holds is fixed by the digest in it, and checked when it is fetched.
"""

import json
import shutil
import tempfile
from pathlib import Path

from components.bundle import BUNDLE_FILE, file_digest, read_any_bundle
from components.errors import IntegrityError, ObjectNotFound
from components.storage import ObjectStore, open_store


def keep_bundle(store: ObjectStore, folder: Path) -> str:
    """Put a bundle on the shelf, what is there already excepted.

    Returns:
        The model's digest.

    Raises:
        IntegrityError: if the bundle is incomplete or altered.
        StorageError: if the store cannot be written.
    """
    bundle, digest = read_any_bundle(folder)
    # bundle.json last: where it lies, the others do.
    for name in [*bundle.files, BUNDLE_FILE]:
        path = folder / name
        store.ensure(f"{bundle_prefix(digest)}/{name}", path, path.stat().st_size)
    return digest


def keep_weights(store: ObjectStore, path: Path, sha256: str) -> None:
    """Put weights, whose digest was checked, on the shelf."""
    store.ensure(weights_key(sha256), path, path.stat().st_size)


def fetch_bundle(store: ObjectStore, digest: str, models: Path) -> Path:
    """Give a local folder with a bundle, every digest of it checked.

    Args:
        store: With the shelf.
        digest: The model's.
        models: Folder of bundles by digest; one that lies there intact is not fetched again.

    Raises:
        IntegrityError: if the shelf lacks it, or a file of it was altered.
    """
    folder = models / digest
    if _is_whole(folder, digest):
        return folder
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=models, prefix=".download-") as temporary:
        fetched = Path(temporary) / digest
        about = _fetch(store, f"{bundle_prefix(digest)}/{BUNDLE_FILE}", fetched / BUNDLE_FILE)
        _check(about, digest, f"{store.uri}/{bundle_prefix(digest)}/{BUNDLE_FILE}")
        for name in json.loads(about.read_bytes())["files"]:
            _fetch(store, f"{bundle_prefix(digest)}/{name}", fetched / name)
        read_any_bundle(fetched, digest)
        _put(fetched, folder)
    return folder


def fetch_weights(store: ObjectStore, sha256: str, weights: Path) -> Path:
    """Give a local file with weights, its digest checked; one that lies there intact is not fetched again.

    Raises:
        IntegrityError: if the shelf lacks them, or they were altered.
    """
    path = weights / f"{sha256}.safetensors"
    if path.is_file() and file_digest(path) == sha256:
        return path
    weights.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=weights, prefix=".download-") as temporary:
        fetched = _fetch(store, weights_key(sha256), Path(temporary) / path.name)
        _check(fetched, sha256, f"{store.uri}/{weights_key(sha256)}")
        fetched.replace(path)
    return path


def bring_model(store_uri: str, digest: str, home: Path) -> Path:
    """Bring a model to a home: its bundle to ``models``, and its weights, where they were kept, to ``weights``.

    Nothing is asked of the store where both lie there intact.

    Returns:
        The bundle's folder.

    Raises:
        IntegrityError: if the shelf lacks one of them, or it was altered.
        StorageError: if the store cannot be read.
    """
    store = open_store(store_uri)
    folder = fetch_bundle(store, digest, home / "models")
    bundle, _ = read_any_bundle(folder, digest)
    if bundle.weights is not None:
        fetch_weights(store, bundle.weights, home / "weights")
    return folder


def bundle_prefix(digest: str) -> str:
    """Give the prefix of a bundle's keys."""
    return f"bundles/{digest}"


def weights_key(sha256: str) -> str:
    """Give the key of weights."""
    return f"weights/{sha256}.safetensors"


def _is_whole(folder: Path, digest: str) -> bool:
    if not folder.exists():
        return False
    try:
        read_any_bundle(folder, digest)
    except IntegrityError:
        shutil.rmtree(folder)  # a copy; the shelf's own files decide
        return False
    return True


def _fetch(store: ObjectStore, key: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with store.open(key) as reader, path.open("wb") as file:
            shutil.copyfileobj(reader, file)
    except ObjectNotFound as error:
        raise IntegrityError(f"{store.uri} has no {key}; run the pipeline's step again that puts it there") from error
    return path


def _check(path: Path, expected: str, name: str) -> None:
    if (actual := file_digest(path)) != expected:
        raise IntegrityError(f"{name} has digest {actual}, but {expected} was asked for; delete it there")


def _put(fetched: Path, folder: Path) -> None:
    try:
        fetched.rename(folder)
    except OSError:
        if not folder.exists():  # else another process has just brought the same bytes
            raise
