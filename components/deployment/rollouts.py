"""What was put behind an endpoint, entered in the audit log."""

import socket
from pathlib import Path

from components.audit.entry import Entry
from components.audit.log import AuditLog
from components.endpoint.files import WantedModel
from components.registry import journal
from components.registry.reconciliation import RECONCILED
from components.registry.versions import ModelVersion, Registry

DEPLOYED, FAILED = "model.deployed", "model.rollout_failed"
_SERVES = "serves_digest"


def tell(registry: Registry, version: ModelVersion, endpoint: str, before: WantedModel | None, url: str) -> None:
    """Enter that a version serves now."""
    journal.tell(
        registry, version, DEPLOYED, {**_about(version, endpoint, before), "url": url, _SERVES: version.digest}
    )


def tell_failed(registry: Registry, version: ModelVersion, endpoint: str, before: WantedModel | None, why: str) -> None:
    """Enter that a version could not be made to serve, and that what served before still does."""
    journal.tell(registry, version, FAILED, _about(version, endpoint, before), reason=why[:2000])


def reconcile(registry: Registry, version: ModelVersion, endpoint: str, serves: WantedModel | None) -> None:
    """Enter what an endpoint serves if that is not what the log said last.

    Args:
        registry: With the log.
        version: Of the model that is asked about; it keeps the anchor.
        endpoint: What the log calls the endpoint.
        serves: What the endpoint was last asked to serve.
    """
    if registry.audit is None or serves is None:
        return
    said = _last(registry.audit, version.name, endpoint)
    if said is not None and said.details[_SERVES] == serves.digest:
        return
    before = f"entry {said.sequence} left {said.subject} serving" if said else "no entry tells what served"
    reason = (
        f"{before}, but the endpoint was asked for version {serves.version}: a rollout was cut off before it was "
        "entered, or the endpoint was changed outside mscflow"
    )
    told = {"endpoint": endpoint, "version": serves.version, _SERVES: serves.digest}
    journal.tell(registry, version, RECONCILED, told, reason=reason)


def endpoint_of(home: Path) -> str:
    """Give what the log calls the endpoint of a home."""
    return f"{socket.gethostname()}:{home}"


def _about(version: ModelVersion, endpoint: str, before: WantedModel | None) -> dict[str, str | None]:
    return {
        **journal.facts(version),
        "endpoint": endpoint,
        "before": before.version if before else None,
        "before_digest": before.digest if before else None,
    }


def _last(log: AuditLog, name: str, endpoint: str) -> Entry | None:
    """Give the newest entry that says what an endpoint serves of a model."""
    about = (entry for entry in log.newest_first() if entry.subject.startswith(f"{name}/"))
    return next(
        (entry for entry in about if _SERVES in entry.details and entry.details.get("endpoint") == endpoint), None
    )
