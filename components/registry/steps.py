"""The registry's steps, and what the command line does with models, as plain functions."""

from pathlib import Path
from typing import Any

import msgspec

from components.audit.log import AuditLog
from components.registry import approval, crown, promotion, verdicts
from components.registry.verdicts import Override
from components.registry.versions import ModelVersion, Registry
from components.settings import GateSettings, Settings
from components.storage import open_store
from components.tracking import parent_run


def registry_of(mlflow_uri: str, home: Path | None, store_uri: str | None) -> Registry:
    """Give the registry whose changes are entered in the audit log of a store; in none if no store is given."""
    return Registry(mlflow_uri, home, AuditLog(open_store(store_uri)) if store_uri else None)


def register(
    bundle_dir: Path, mlflow_uri: str, home: Path | None = None, store_uri: str | None = None
) -> dict[str, Any]:
    """Give a bundle a version in the registry, in the run of the whole pipeline run, if there is one.

    Args:
        bundle_dir: The bundle.
        mlflow_uri: The registry.
        home: Where locks lie when MLflow is a server.
        store_uri: Object store of the audit log that it is entered in.

    Returns:
        ``name``, ``version``, ``digest``, ``aliases`` and ``created``, which is False where the same
        bytes had a version already.

    Raises:
        IntegrityError: if the bundle is incomplete or altered.
        RegistryError: if MLflow does not answer or refuses.
    """
    registry = registry_of(mlflow_uri, home, store_uri)
    version, created = registry.register(bundle_dir, run_id=parent_run(mlflow_uri))
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
    override: Override | None = None,
) -> dict[str, Any]:
    """Judge a version against floors and champion, and make it the champion if it passes.

    Args:
        name: Registered model.
        version: Its number or an alias.
        store_uri: Object store of the images, and of the audit log.
        split_id: Split whose test part decides; None takes the one that the version was made from.
        mlflow_uri: The registry.
        gate: Floors, margins and policy.
        home: Where bundles and decoded images are cached.
        override: Promotes a refused version, too.

    Returns:
        The fields of ``components.registry.promotion.Promotion``, JSON-able.

    Raises:
        InputError: if there is no such version.
        IntegrityError: if a model is not what was registered.
        RegistryError: if MLflow does not answer or refuses.
    """
    registry = registry_of(mlflow_uri, home, store_uri)
    split = split_id or registry.show(name, version).split_id or ""
    exam = promotion.Exam(store_uri, split, home)
    done = promotion.promote(registry, name, version, exam, gate, override)
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(done))
    return plain


def approve(
    name: str, which: str, store_uri: str, mlflow_uri: str, home: Path, *, reason: str, by: str | None = None
) -> dict[str, Any]:
    """Release a version that passed the gate and waits for a person; see ``components.registry.approval``.

    Returns:
        The champion now, as ``summary`` gives it.
    """
    registry = registry_of(mlflow_uri, home, store_uri)
    return summary(approval.approve(registry, name, which, reason=reason, home=home, by=by))


def rollback(
    name: str, mlflow_uri: str, home: Path, reason: str, by: str | None = None, store_uri: str | None = None
) -> dict[str, Any]:
    """Make the previous champion the champion again.

    Returns:
        The champion now, as ``summary`` gives it.

    Raises:
        InputError: if there is none.
    """
    return summary(crown.rollback(registry_of(mlflow_uri, home, store_uri), name, reason, by))


def withdraw(
    name: str, version: str, mlflow_uri: str, home: Path, reason: str, store_uri: str | None = None
) -> dict[str, Any] | None:
    """Undo the promotion of a version that then failed to serve; see ``crown.withdraw``.

    Returns:
        The champion now, as ``summary`` gives it; None if there is none.
    """
    champion = crown.withdraw(registry_of(mlflow_uri, home, store_uri), name, version, reason)
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
    record = verdicts.read_verdict(registry, version)
    write_version_page(
        registry.download(name, version.version, home / "models"),
        path,
        verdict=verdicts.as_verdict(record) if record else None,
        version=version.version,
        digest=version.digest,
        champion=record["champion_version"] if record else None,
        notes=verdicts.notes(version, record),
    )


def write_evidence_pack(name: str, which: str, settings: Settings, folder: Path) -> dict[str, str]:
    """Write all that the release of a version rests on, as a page and as JSON.

    Returns:
        ``model``, ``version``, ``html``, ``json`` and ``sha256`` (of the JSON).

    Raises:
        InputError: if there is no such version.
        IntegrityError: if its bundle is not what was registered.
    """
    from components.registry.pack.content import gather
    from components.registry.pack.page import write_pack

    registry = registry_of(settings.mlflow_uri, settings.home, settings.store_uri)
    version = registry.show(name, which)
    log = AuditLog(open_store(settings.store_uri))
    written = write_pack(gather(registry, log, version, settings), folder)
    return {"model": version.name, "version": version.version, **written}


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
    return {**summary(version), "tags": dict(version.tags), "verdict": verdicts.read_verdict(registry, version)}


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
