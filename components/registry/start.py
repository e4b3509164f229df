"""What a new training may start from: the champion's bundle and its weights, as they were registered."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from components import tracking
from components.bundle import WEIGHTS_FILE, file_digest, read_any_bundle
from components.errors import IntegrityError
from components.registry.crown import PREDECESSOR_TAG
from components.registry.versions import Alias, ModelVersion, Registry, named, weights_place
from components.shelf import keep_bundle, keep_weights
from components.storage import open_store


def fetch_champion(
    name: str, data_version: str, mlflow_uri: str, home: Path, store_uri: str | None = None
) -> dict[str, Any]:
    """Bring the champion's bundle to ``models`` in the home, and its weights to ``weights``, each digest checked.

    Both are put on the shelf in the store, too, where steps find them that have a home of their own.

    Where the champion is itself of the data version that is to be learnt from, as after a run that was killed once it
    had promoted, it is the champion before it: what is done again starts where it did.

    Args:
        name: Registered model.
        data_version: That is to be learnt from.
        mlflow_uri: The registry.
        home: Where bundles and weights are kept.
        store_uri: Object store with the shelf (``components.shelf``); None for none.

    Returns:
        ``name``, ``version``, ``digest`` (the last two empty where there is no champion) and ``weights``, whether
        there are any.

    Raises:
        IntegrityError: if the registry's files are not those that were registered.
        RegistryError: if MLflow does not answer or refuses.
    """
    registry = Registry(mlflow_uri, home)
    champion = _before(registry, name, data_version)
    if champion is None:
        return {"name": name, "version": "", "digest": "", "weights": False}
    folder = registry.download(name, champion.version, home / "models")
    bundle, digest = read_any_bundle(folder, champion.digest)
    weights = None
    if bundle.weights is not None:
        weights = _fetch_weights(mlflow_uri, champion, bundle.weights, home / "weights")
    if store_uri is not None:
        store = open_store(store_uri)
        keep_bundle(store, folder)
        if weights is not None:
            keep_weights(store, weights, weights.stem)
    return {"name": name, "version": champion.version, "digest": digest, "weights": weights is not None}


def _before(registry: Registry, name: str, data_version: str) -> ModelVersion | None:
    versions = {version.version: version for version in registry.versions(name)}
    champion = named(versions.values(), Alias.CHAMPION)
    while champion is not None and champion.data_version == data_version:
        del versions[champion.version]
        champion = versions.get(champion.tags.get(PREDECESSOR_TAG, ""))
    return champion


def _fetch_weights(mlflow_uri: str, version: ModelVersion, expected: str, into: Path) -> Path:
    path = into / f"{expected}.safetensors"
    if path.is_file() and file_digest(path) == expected:
        return path
    into.mkdir(parents=True, exist_ok=True)
    source = f"{version.source.rpartition('/')[0]}/{weights_place(version.digest)}/{WEIGHTS_FILE}"
    with (
        tempfile.TemporaryDirectory(dir=into, prefix=".download-") as temporary,
        tracking.calling(mlflow_uri, f"fetching the weights of {version.name} {version.version} from {source}"),
    ):
        from mlflow.artifacts import download_artifacts

        fetched = Path(download_artifacts(source, dst_path=temporary, tracking_uri=mlflow_uri))
        if (actual := file_digest(fetched)) != expected:
            raise IntegrityError(f"{source} has digest {actual}, but bundle.json records {expected}")
        shutil.move(fetched, path)
    return path
