"""The endpoint kept in line with the registry's champion, by hand: what a release or a rollback ends with."""

import json
from pathlib import Path
from typing import Any

from components.audit.log import AuditLog
from components.deployment import local, steps
from components.deployment.places import Place, ThisMachine, place
from components.endpoint.files import read_status
from components.registry.crown import rollback
from components.registry.verdicts import ROLLED_BACK_TAG
from components.registry.versions import ModelVersion, Registry
from components.rollout import Rolling
from components.settings import ServingSettings
from components.storage import open_store


def serve_champion(
    name: str, mlflow_uri: str, home: Path, serving: ServingSettings, store_uri: str, rolling: Rolling | None = None
) -> dict[str, Any] | None:
    """Swap the champion into the endpoint of a home or a cluster, if one runs.

    Returns:
        What ``steps.deploy`` gives; None if no endpoint runs.
    """
    if rolling is not None and rolling.target == "kserve":
        runs = place(home, serving, store_uri, rolling).served()
        return steps.deploy(name, "champion", mlflow_uri, home, serving, store_uri, rolling) if runs else None
    running = read_status(home / "endpoint") if local.status(home)["running"] else None
    if running is None:
        return None
    where = {"host": running.host, "port": running.port, "grpc_port": running.grpc_port}
    return steps.deploy(name, "champion", mlflow_uri, home, serving.model_copy(update=where), store_uri)


def roll_back(
    name: str,
    mlflow_uri: str,
    home: Path,
    serving: ServingSettings,
    store_uri: str,
    rolling: Rolling | None = None,
    *,
    reason: str,
    by: str | None = None,
) -> dict[str, Any]:
    """Make the previous champion the champion again, and have the endpoint serve it.

    A rollback that was cut off between the two is finished, not done once more. What is gone back to has served
    before, so that a cluster is not made to try it out.

    Returns:
        ``version``, the champion now; ``digest``; ``endpoint``, what ``serve_champion`` gives; and ``finished``,
        whether an earlier rollback was finished.

    Raises:
        InputError: if there is no champion, or none before it.
        DeploymentError: if the champion cannot be made to serve; what served before does.
    """
    registry = Registry(mlflow_uri, home, AuditLog(open_store(store_uri)))
    hurried = rolling and rolling.model_copy(update={"canary": ()})
    champion = _half_way(registry, name, place(home, serving, store_uri, hurried))
    finished = champion is not None
    champion = champion or rollback(registry, name, reason, by)
    served = serve_champion(name, mlflow_uri, home, serving, store_uri, hurried)
    return {
        "name": name,
        "version": champion.version,
        "digest": champion.digest,
        "aliases": list(champion.aliases),
        "finished": finished,
        "endpoint": served,
    }


def _half_way(registry: Registry, name: str, where: Place) -> ModelVersion | None:
    """Give the champion if the endpoint still serves what was rolled back to it."""
    if isinstance(where, ThisMachine) and not where.runs():
        return None
    wanted, champion = where.served().get(name), registry.champion(name)
    served = next((each for each in registry.versions(name) if wanted and each.digest == wanted.digest), None)
    if served is None or champion is None or served.version == champion.version:
        return None
    note = json.loads(served.tags.get(ROLLED_BACK_TAG, "{}"))
    return champion if note.get("to") == champion.version else None
