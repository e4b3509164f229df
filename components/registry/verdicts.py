"""The gate's verdicts as they are kept with the versions that they are on."""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from components.errors import InputError
from components.evaluation.verdict import Verdict
from components.registry import journal
from components.registry.versions import ModelVersion, Registry
from components.settings import GateSettings

VERDICT_FILE = "verdict.json"
VERDICT_TAG, AWAITING_TAG, ROLLED_BACK_TAG = "verdict", "awaits_approval", "rolled_back"


@dataclass(frozen=True)
class Override:
    """A person's decision to promote whatever the gate says."""

    reason: str
    by: str | None = None

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise InputError("promoting past the gate needs a reason; it is kept with the model")


@dataclass(frozen=True)
class Judged:
    """A verdict, and what it was reached with.

    Attributes:
        split_id: Whose test part they were scored on.
        excuse: Why the champion was left out, if it had to be.
        override: A person's decision, if it took one.
    """

    challenger: ModelVersion
    champion: ModelVersion | None
    verdict: Verdict
    split_id: str
    settings: GateSettings
    excuse: str | None
    override: Override | None

    @property
    def promoted(self) -> bool:
        """Whether the version becomes champion at once."""
        return self.override is not None or (self.verdict.passed and self.settings.policy == "auto")

    @property
    def awaits(self) -> bool:
        """Whether a person has to approve it first."""
        return self.verdict.passed and not self.promoted

    @property
    def gate(self) -> str:
        """The verdict in a word."""
        return "forced" if self.override else "passed" if self.verdict.passed else "refused"


def record(registry: Registry, judged: Judged) -> None:
    """Keep the verdict with the version, and enter it in the log; earlier verdicts stay."""
    now = datetime.now(UTC)
    version, override = judged.challenger, judged.override
    path = f"verdicts/{version.version}/{now:%Y%m%dT%H%M%S.%f}/{VERDICT_FILE}"
    content = (json.dumps(_content(judged, now), indent=2) + "\n").encode()
    pending = journal.begin(
        registry,
        version,
        "model.judged",
        actor=override.by if override else None,
        reason="; ".join(judged.verdict.reasons)[:2000],
        details=_details(judged, path, content),
    )
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / VERDICT_FILE
        file.write_bytes(content)
        registry.log_file(version, file, path.rpartition("/")[0])
    tags = {
        VERDICT_TAG: path,
        "gate": judged.gate,
        "gate_reasons": "; ".join(judged.verdict.reasons)[:1000] or None,
        "gate_forced": f"{override.by or 'unknown'}: {override.reason}"[:1000] if override else None,
        "judged_at": now.isoformat(timespec="seconds"),
        "judged_against": judged.champion.version if judged.champion else None,
        AWAITING_TAG: path if judged.awaits else None,
    }
    registry.tag(version, tags)
    journal.finish(registry, version, pending)


def read_verdict(registry: Registry, version: ModelVersion) -> dict[str, Any] | None:
    """Give what the last promotion of a version found, None if it was never judged."""
    path = version.tags.get(VERDICT_TAG)
    if path is None:
        return None
    found: dict[str, Any] = json.loads(registry.read_file(version, path))
    return found


def as_verdict(record: dict[str, Any]) -> Verdict:
    """Give the gate's verdict within what ``read_verdict`` gave."""
    return msgspec.convert(record, Verdict)


def notes(version: ModelVersion, record: dict[str, Any] | None) -> list[str]:
    """Give sentences on what a version's verdict alone does not tell.

    Args:
        version: As the registry holds it now.
        record: What ``read_verdict`` gives.
    """
    told = []
    if record and (override := record["override"]):
        told.append(f"Promoted past the gate by {override['by'] or 'a person unnamed'}: {override['reason']}")
    if record and (excuse := record["champion_not_judged"]):
        told.append(f"Not held against the champion: {excuse}")
    if version.tags.get(AWAITING_TAG):
        told.append(f"Waits for a person: 'mscflow models approve {version.name} {version.version}' releases it")
    elif text := version.tags.get("approved"):
        note = json.loads(text)
        told.append(f"Approved at {note['at']} by {note['by']}: {note['reason']}")
    if text := version.tags.get(ROLLED_BACK_TAG):
        note = json.loads(text)
        successor = f"version {note['to']}" if note["to"] else "no version"
        told.append(f"Rolled back to {successor} at {note['at']} by {note['by'] or 'mscflow'}: {note['reason']}")
    return told


def _content(judged: Judged, now: datetime) -> dict[str, Any]:
    version, champion, override = judged.challenger, judged.champion, judged.override
    return {
        **msgspec.to_builtins(judged.verdict),
        "model": version.name,
        "version": version.version,
        "champion_version": champion.version if champion else None,
        "champion_data_version": champion.data_version if champion else None,
        "split_id": judged.split_id,
        "settings": judged.settings.model_dump(mode="json"),
        "time": now.isoformat(timespec="seconds"),
        "override": {"reason": override.reason, "by": override.by} if override else None,
        "champion_not_judged": judged.excuse,
    }


def _details(judged: Judged, path: str, content: bytes) -> dict[str, Any]:
    verdict, champion = judged.verdict, judged.champion
    return {
        **journal.facts(judged.challenger),
        "gate": judged.gate,
        "awaits_approval": judged.awaits,
        "rules_failed": [rule.name for rule in verdict.rules if not rule.passed],
        "rules": len(verdict.rules),
        "judged_on_split": judged.split_id,
        "images": verdict.n,
        "groups": verdict.groups,
        "against": champion.version if champion else None,
        "against_digest": champion.digest if champion else None,
        "override": judged.override.reason if judged.override else None,
        "verdict": path,
        "verdict_sha256": hashlib.sha256(content).hexdigest(),
    }
