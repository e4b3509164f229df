"""The registry's steps, and what the command line does with models, as plain functions."""

import os
from pathlib import Path
from typing import Any

import msgspec

from components.registry import promotion
from components.registry.versions import ModelVersion, Registry
from components.settings import GateSettings
from components.tracking import RUN_ID_VARIABLE


def register(bundle_dir: Path, mlflow_uri: str) -> dict[str, Any]:
    """Give a bundle a version in the registry, in the run that ``MLFLOW_RUN_ID`` names, if any.

    Returns:
        ``name``, ``version``, ``digest``, ``aliases`` and ``created``, which is False where the same
        bytes had a version already.

    Raises:
        IntegrityError: if the bundle is incomplete or altered.
        RegistryError: if MLflow does not answer or refuses.
    """
    version, created = Registry(mlflow_uri).register(bundle_dir, run_id=os.environ.get(RUN_ID_VARIABLE) or None)
    return {
        "name": version.name,
        "version": version.version,
        "digest": version.digest,
        "aliases": list(version.aliases),
        "created": created,
    }


def promote(
    name: str,
    version: str,
    store_uri: str,
    split_id: str | None,
    mlflow_uri: str,
    gate: GateSettings,
    home: Path,
    override: promotion.Override | None = None,
) -> dict[str, Any]:
    """Judge a version against floors and champion, and make it the champion if it passes.

    Args:
        name: Registered model.
        version: Its number or an alias.
        store_uri: Object store of the images.
        split_id: Split whose test part decides; None takes the one that the version was made from.
        mlflow_uri: The registry.
        gate: Floors and margins.
        home: Where bundles and decoded images are cached.
        override: Promotes a refused version, too.

    Returns:
        The fields of ``components.registry.promotion.Promotion``, JSON-able.

    Raises:
        InputError: if there is no such version.
        IntegrityError: if a model is not what was registered.
        RegistryError: if MLflow does not answer or refuses.
    """
    registry = Registry(mlflow_uri, home)
    split = split_id or registry.show(name, version).split_id or ""
    exam = promotion.Exam(store_uri, split, home)
    done = promotion.promote(registry, name, version, exam, gate, override)
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(done))
    return plain


def rollback(name: str, mlflow_uri: str, home: Path, reason: str, by: str | None = None) -> dict[str, Any]:
    """Make the previous champion the champion again.

    Returns:
        The champion now, as ``summary`` gives it.

    Raises:
        InputError: if there is none.
    """
    return summary(promotion.rollback(Registry(mlflow_uri, home), name, reason, by))


def withdraw(name: str, version: str, mlflow_uri: str, home: Path, reason: str) -> dict[str, Any] | None:
    """Undo the promotion of a version that then failed to serve; see ``promotion.withdraw``.

    Returns:
        The champion now, as ``summary`` gives it; None if there is none.
    """
    champion = promotion.withdraw(Registry(mlflow_uri, home), name, version, reason)
    return summary(champion) if champion else None


def write_version_report(name: str, which: str, mlflow_uri: str, home: Path, path: Path) -> None:
    """Write the HTML report of a version, its last verdict included.

    Raises:
        InputError: if there is no such version.
        IntegrityError: if its bundle is not what was registered.
    """
    from components.evaluation.judging import write_version_page

    registry = Registry(mlflow_uri, home)
    version = registry.show(name, which)
    record = promotion.read_verdict(registry, version)
    write_version_page(
        registry.download(name, version.version, home / "models"),
        path,
        verdict=promotion.as_verdict(record) if record else None,
        version=version.version,
        digest=version.digest,
        champion=record["champion_version"] if record else None,
        notes=promotion.notes(version, record),
    )


def list_versions(mlflow_uri: str, name: str | None = None) -> list[ModelVersion]:
    """Give the versions of one model or all, by name, the newest first."""
    return Registry(mlflow_uri).versions(name)


def show(name: str, which: str, mlflow_uri: str) -> dict[str, Any]:
    """Give all that is recorded of a version, the last verdict included.

    Raises:
        InputError: if there is no such version.
    """
    registry = Registry(mlflow_uri)
    version = registry.show(name, which)
    return {**summary(version), "tags": dict(version.tags), "verdict": promotion.read_verdict(registry, version)}


def summary(version: ModelVersion) -> dict[str, Any]:
    """Give a version as a JSON-able row."""
    return {
        "name": version.name,
        "version": version.version,
        "aliases": list(version.aliases),
        "created": version.created.isoformat(timespec="seconds"),
        "accuracy": version.accuracy,
        "metrics": version.metrics,
        "gate": version.gate,
        "data_version": version.data_version,
        "split_id": version.split_id,
        "digest": version.digest,
        "run_id": version.run_id,
    }
