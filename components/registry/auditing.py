"""The audit log read and verified, held against the registry."""

from typing import Any

import msgspec

from components.audit.log import AuditLog
from components.audit.verification import Fault, Verification, verify
from components.registry import journal
from components.registry.journal import CHAMPION_DIGEST, PENDING_TAG
from components.registry.reconciliation import unrecorded
from components.registry.versions import Alias, ModelVersion, Registry
from components.storage import open_store


def read_audit(store_uri: str, mlflow_uri: str, about: str = "", expect: str | None = None) -> dict[str, Any]:
    """Read a store's audit log and verify it against what the registry noted.

    Args:
        store_uri: Object store of the log.
        mlflow_uri: The registry, whose tags are the anchors.
        about: Gives only the entries whose subject begins so.
        expect: Digest, or its first 12 digits or more, of an entry that must be there.

    Returns:
        ``entries``; ``count``, of all; ``sound``; ``faults`` (``place``, ``kind``, ``note``); ``doubtful``,
        ``anchors``, ``fresh`` and ``head`` of ``components.audit.verification.Verification``; ``unrecorded``,
        sentences on champions that the log does not tell of.

    Raises:
        StorageError: if the store does not answer.
        RegistryError: if MLflow does not.
    """
    versions = Registry(mlflow_uri).versions()
    log = AuditLog(open_store(store_uri, must_exist=True))
    found = verify(log, journal.anchors(versions))
    faults = [*found.faults, *_missing(found, expect)]
    return {
        "entries": [msgspec.to_builtins(each) for each in found.readable if each.subject.startswith(about)],
        "count": len(found.readable),
        "sound": not faults,
        "faults": [fault._asdict() for fault in faults],
        "doubtful": list(found.doubtful),
        "anchors": found.anchors,
        "fresh": found.fresh,
        "head": found.head,
        "unrecorded": _unrecorded(found, versions),
    }


def _missing(found: Verification, expect: str | None) -> list[Fault]:
    if expect is None or (len(expect) >= 12 and any(each.digest.startswith(expect) for each in found.readable)):
        return []
    return [Fault(None, "removed", f"no entry has the digest '{expect}' that was noted (12 digits or more)")]


def _unrecorded(found: Verification, versions: list[ModelVersion]) -> list[str]:
    """Say where changes wait to be entered, or the registry's champions are not those of the log's last word."""
    notes = []
    for name in sorted({version.name for version in versions}):
        if any(tag.startswith(PENDING_TAG) for each in versions if each.name == name for tag in each.tags):
            notes.append(f"{name}: a change was cut off before it was entered, or is being made")
            continue
        champion = next((each for each in versions if each.name == name and Alias.CHAMPION in each.aliases), None)
        about = (each for each in reversed(found.readable) if each.subject.startswith(f"{name}/"))
        said = next((each for each in about if CHAMPION_DIGEST in each.details), None)
        if (said.details[CHAMPION_DIGEST] if said else None) != (champion.digest if champion else None):
            notes.append(f"{name}: {unrecorded(said, champion)}")
    return notes
