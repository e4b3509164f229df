"""The rollout steps, as plain functions."""

from pathlib import Path
from typing import Any

import msgspec

from components.audit.log import AuditLog
from components.bundle import KNOWN_IMAGE_FILE
from components.deployment import check, rollouts
from components.deployment.places import place
from components.endpoint.files import WantedModel
from components.errors import DeploymentError, InputError, RegistryError, RolloutLost, UnfitModel
from components.registry.crown import withdraw
from components.registry.versions import Alias, ModelVersion, Registry
from components.rollout import Rolling
from components.settings import ServingSettings
from components.storage import open_store


def deploy(
    name: str,
    version: str,
    mlflow_uri: str,
    home: Path,
    serving: ServingSettings,
    store_uri: str | None = None,
    rolling: Rolling | None = None,
) -> dict[str, Any]:
    """Put a version behind the endpoint of a home, or of a cluster.

    Fetches its bundle, has the endpoint load it beside what serves, or starts one, and asks it about the
    bundle's known image. If that fails, what served before serves on, and the version is champion no more:
    it was to replace another, or is itself unfit. A machine that cannot start its first server does not
    cost a version its crown, nor does somebody else who changed the endpoint meanwhile.

    Args:
        name: Registered model.
        version: Its number or an alias, such as ``champion``.
        mlflow_uri: The registry.
        home: Whose endpoint it is; bundles are kept in its folder ``models``.
        serving: Where the endpoint listens.
        store_uri: Object store of the audit log that the rollout is entered in.
        rolling: What serves; None for a process of this machine.

    Returns:
        ``url``, ``grpc_url``, ``model``, ``version``, ``digest``, ``data_version``, ``pid``, ``swapped``
        (another version served before) and ``started`` (the server was started); of a cluster ``release`` and
        ``mode``, too, and neither gRPC nor a process is told of.

    Raises:
        ClusterError: if the cluster's API server does not answer or refuses; the version stays what it is.
        DeploymentError: if the version cannot serve.
        EndpointUnavailable: if the endpoint cannot have its ports; the version stays what it is.
        InputError: if the registry holds no such version.
        IntegrityError: if its files are not what was registered.
        RegistryError: if MLflow does not answer or refuses.
    """
    registry = Registry(mlflow_uri, home, AuditLog(open_store(store_uri)) if store_uri else None)
    chosen = registry.show(name, version)
    wanted = _fetch(registry, chosen, home)
    where = place(home, serving, store_uri, rolling)
    before = where.served().get(name)
    rollouts.reconcile(registry, chosen, where.name, before)
    try:
        done = where.roll_out(name, wanted)
    except RolloutLost as error:
        rollouts.tell_failed(registry, chosen, where.name, before, str(error))
        raise
    except DeploymentError as error:
        kept = f"version {before.version} serves on" if before else f"no version of {name} served before"
        replaces = before is not None and before.digest != wanted.digest
        if replaces or isinstance(error, UnfitModel):
            kept += _withdraw(registry, name, wanted, str(error))
        rollouts.tell_failed(registry, chosen, where.name, before, str(error))
        raise type(error)(f"{error}; {kept}") from error
    previous = done.previous.get(name)
    swapped = not done.started and previous is not None and previous.digest != wanted.digest
    if done.started or previous is None or swapped:
        rollouts.tell(registry, chosen, where.name, previous, done.about["url"])
    return {
        **done.about,
        "model": name,
        "version": wanted.version,
        "digest": wanted.digest,
        "data_version": chosen.data_version,
        "swapped": swapped,
        "started": done.started,
    }


def verify_known(url: str, name: str, digest: str, mlflow_uri: str, home: Path) -> dict[str, Any]:
    """Ask the endpoint about the known image of the bundle that it should serve.

    The bundle is fetched from the registry where the home does not hold it, as a step's own home does not.

    Returns:
        The prediction, with ``image``, the known image's path.

    Raises:
        DeploymentError: if another model answers, or the answer is not the known one.
        InputError: if the registry knows no such model.
        IntegrityError: if the bundle is not what was registered.
        RegistryError: if MLflow does not answer or refuses.
    """
    registry = Registry(mlflow_uri, home)
    version = registry.find(name, digest)
    if version is None:
        raise InputError(f"the registry holds no version of {name} with digest {digest[:12]}; was it deleted?")
    folder = registry.download(name, version.version, home / "models")
    prediction = check.ask_known(url, name, folder, digest)
    return {**msgspec.to_builtins(prediction), "image": str(folder / KNOWN_IMAGE_FILE)}


def verify(url: str, name: str, image: Path, digest: str) -> dict[str, Any]:
    """Ask the endpoint about an image and check that the expected model answers.

    Returns:
        The prediction.

    Raises:
        DeploymentError: if it does not.
    """
    prediction: dict[str, Any] = msgspec.to_builtins(check.ask(url, name, image.name, image.read_bytes(), digest))
    return prediction


def champions(mlflow_uri: str, home: Path) -> dict[str, WantedModel]:
    """Fetch the champion of every registered model.

    Raises:
        InputError: if there is none.
        IntegrityError: if one's files are not what was registered.
        RegistryError: if MLflow does not answer or refuses.
    """
    registry = Registry(mlflow_uri, home)
    names = [version.name for version in registry.versions() if Alias.CHAMPION in version.aliases]
    if not names:
        raise InputError("the registry holds no champion to serve; 'mscflow run' or 'mscflow demo' releases one")
    return {name: _fetch(registry, registry.show(name, Alias.CHAMPION), home) for name in names}


def _fetch(registry: Registry, version: ModelVersion, home: Path) -> WantedModel:
    folder = registry.download(version.name, version.version, home / "models")
    return WantedModel(str(folder.absolute()), version.version, version.digest)


def _withdraw(registry: Registry, name: str, wanted: WantedModel, reason: str) -> str:
    """Take the crown from a version that could not serve; say what came of it."""
    try:
        champion = withdraw(registry, name, wanted.version, reason)
    except RegistryError as error:
        return f"; the registry still names version {wanted.version} champion, as it does not answer: {error}"
    return f"; champion is version {champion.version}" if champion else "; the registry has no champion"
