"""Approval: a named person releases what the gate passed, the very bytes that were judged and no others."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.audit.entry import Entry, this_actor
from components.audit.log import AuditLog
from components.errors import GateRefused, InputError, IntegrityError
from components.registry import journal
from components.registry.crown import crown, settle
from components.registry.verdicts import AWAITING_TAG, VERDICT_TAG, as_verdict
from components.registry.versions import Alias, ModelVersion, Registry


def approve(
    registry: Registry, name: str, which: str, *, reason: str, home: Path, by: str | None = None
) -> ModelVersion:
    """Release a version that passed the gate under the policy ``approval``.

    What is released is what was judged: the verdict is the one that the log recorded, the bundle has the digest
    that the verdict names, and the champion is still the one that it was held against.

    Args:
        registry: Where the model lives.
        name: Registered model.
        which: Version number or alias.
        reason: Why; kept with the model and in the log.
        home: Where bundles are cached.
        by: Who approves; the account by default.

    Returns:
        The champion now.

    Raises:
        InputError: if there is no reason, no such version, or nothing to approve.
        GateRefused: if the gate refused it, or it was judged against another champion.
        IntegrityError: if the version or its verdict is not what was judged.
        RegistryError: if MLflow fails.
    """
    if not reason.strip():
        raise InputError("an approval needs a reason; it is kept with the model")
    with registry.lock(f"{name}.promotion"):
        champion = settle(registry, name)
        version = registry.show(name, which)
        record = _awaiting(registry, version)
        _check_champion(version, champion, record)
        verdict = as_verdict(record)
        if verdict.challenger != version.digest:
            raise IntegrityError(
                f"the verdict on {name} {version.version} is on a model of digest {verdict.challenger[:12]}, but the "
                f"registry records {version.digest[:12]}; judge it again with 'mscflow models promote'"
            )
        registry.download(name, version.version, home / "models")  # which checks every digest
        person, now = by or this_actor(), datetime.now(UTC).isoformat(timespec="seconds")
        note = {"at": now, "by": person, "reason": reason[:1000]}
        crown(
            registry,
            version,
            champion,
            "model.approved",
            tags={"approved": json.dumps(note)},
            details={"meaning": "approval of the release", "verdict": version.tags[VERDICT_TAG], "gate": "passed"},
            actor=person,
            reason=reason[:2000],
        )
        return registry.show(name, Alias.CHAMPION)


def _awaiting(registry: Registry, version: ModelVersion) -> dict[str, Any]:
    """Give the verdict that waits for a person, as the log recorded it."""
    path = version.tags.get(AWAITING_TAG)
    if version.gate == "refused":
        raise GateRefused(
            f"the gate refused {version.name} {version.version}: {version.tags.get('gate_reasons')}; "
            "only 'mscflow models promote --force' with a reason releases it"
        )
    if path is None or path != version.tags.get(VERDICT_TAG):
        raise InputError(
            f"{version.name} {version.version} does not wait for approval; 'mscflow models promote' has it judged "
            "under the policy 'approval' (gate.policy)"
        )
    content = registry.read_file(version, path)
    _check_recorded(registry, version, path, hashlib.sha256(content).hexdigest())
    record: dict[str, Any] = json.loads(content)
    return record


def _check_recorded(registry: Registry, version: ModelVersion, path: str, digest: str) -> None:
    if registry.audit is None:
        return
    entry = _entry_on(registry.audit, version, path)
    if entry is None or entry.details.get("verdict_sha256") != digest:
        told = f"entry {entry.sequence} of the audit log tells of another" if entry else "the audit log tells of none"
        raise IntegrityError(
            f"the verdict {path} of {version.name} {version.version} was altered, as {told}; "
            "judge the version again with 'mscflow models promote'"
        )


def _entry_on(log: AuditLog, version: ModelVersion, path: str) -> Entry | None:
    """Give the entry of a verdict, if the registry's anchor vouches for it."""
    for entry in log.newest_first():
        if entry.action == "model.judged" and entry.details.get("verdict") == path:
            noted = {anchor.place: anchor.digest for anchor in journal.anchors([version])}
            return entry if noted.get(entry.sequence) == entry.digest and entry.intact else None
    return None


def _check_champion(version: ModelVersion, champion: ModelVersion | None, record: dict[str, Any]) -> None:
    judged = (record["champion_version"], record["champion"])
    now = (champion.version, champion.digest) if champion else (None, None)
    if judged != now:
        against = f"version {judged[0]}" if judged[0] else "no champion"
        raise GateRefused(
            f"{version.name} {version.version} was judged against {against}, but the champion is "
            f"{f'version {now[0]} ({str(now[1])[:12]})' if champion else 'none'} now; judge it again with "
            f"'mscflow models promote {version.name} {version.version}'"
        )
