"""What a pack holds, gathered from the registry, the version's bundle and the audit log."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from components.audit.entry import Entry
from components.audit.log import AuditLog
from components.audit.verification import verify
from components.bundle import BUNDLE_FILE, EVIDENCE_FILE, Bundle, DetectorBundle, read_any_bundle
from components.culture import Task
from components.evaluation.verdict import bound_of, figure_of
from components.registry import journal, verdicts
from components.registry.pack.wording import wording
from components.registry.versions import ModelVersion, Registry
from components.settings import Settings

FORMAT = "mscflow-evidence-pack/1"
# What of the settings the plan rests on: how new data is watched, and what a model is held against.
_PLANNED = ("watch", "screening", "drift", "gate")


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """A pack, by the headings of the draft Annex 22; every value is plain JSON.

    Attributes:
        bundle: ``bundle.json``, with the digest of each file of the model.
        evidence: ``evidence.json``: every figure, and the answer to every test image.
        verdict: The gate's last verdict, with the criteria that it used; None before the first.
        submitted: Entry by which the criteria were fixed before that verdict; None where none was made.
        changes: Entries on this model, its lineage's batches among them, the oldest first.
        audit: Whether the log that they come from is whole.
    """

    format: str = FORMAT
    created: datetime
    model: dict[str, Any]
    intended_use: dict[str, Any]
    data: dict[str, Any]
    acceptance: dict[str, Any]
    results: dict[str, Any]
    confidence: dict[str, Any]
    limits: list[str]
    monitoring: dict[str, Any]
    changes: list[dict[str, Any]]
    audit: dict[str, Any]
    bundle: dict[str, Any]
    evidence: dict[str, Any]
    verdict: dict[str, Any] | None


def gather(registry: Registry, log: AuditLog, version: ModelVersion, settings: Settings) -> Pack:
    """Gather a version's pack.

    Raises:
        IntegrityError: if the bundle is not what was registered.
        RegistryError: if MLflow does not answer or refuses.
    """
    folder = registry.download(version.name, version.version, settings.home / "models")
    bundle, _ = read_any_bundle(folder, version.digest)
    evidence = _read(folder / EVIDENCE_FILE)
    record = verdicts.read_verdict(registry, version)
    found = verify(log, journal.anchors(registry.versions()))
    text = wording(Task(bundle.task), bundle.modality)
    lineage = evidence.get("data", {}).get("lineage", "")
    about = [each for each in found.readable if each.subject.startswith((f"{version.name}/", f"{lineage}/"))]
    return Pack(
        created=datetime.now(UTC),
        model={
            "name": version.name,
            "version": version.version,
            "aliases": list(version.aliases),
            "registered": version.created.isoformat(timespec="seconds"),
            "backbone": bundle.backbone,
            **journal.facts(version),
            "notes": verdicts.notes(version, record),
        },
        intended_use={"use": text.use, "inputs": text.inputs, "output": text.output, "person": text.person},
        data=evidence.get("data", {}),
        acceptance=_acceptance(version, record, about),
        results=_results(evidence),
        confidence=_confidence(bundle, evidence),
        limits=[*text.limits, *_thin(evidence, settings)],
        monitoring={name: settings.model_dump(mode="json")[name] for name in _PLANNED},
        changes=[msgspec.to_builtins(each) for each in about],
        audit={
            "sound": found.sound,
            "entries": len(found.readable),
            "head": found.head,
            "anchors": found.anchors,
            "faults": [fault.note for fault in found.faults],
        },
        bundle=_read(folder / BUNDLE_FILE),
        evidence=evidence,
        verdict=record,
    )


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def _acceptance(version: ModelVersion, record: dict[str, Any] | None, entries: list[Entry]) -> dict[str, Any]:
    if record is None:
        return {"criteria": None, "rules": [], "fixed": None, "judged": None}
    mine = [each for each in entries if each.subject == journal.subject(version)]
    path = version.tags[verdicts.VERDICT_TAG]
    judged = next((each for each in mine if each.action == "model.judged" and each.details["verdict"] == path), None)
    before = [each for each in mine if each.action == "model.submitted" and judged and each.sequence < judged.sequence]
    rules = verdicts.as_verdict(record).rules
    return {
        "criteria": record["settings"],
        "rules": [
            {
                "name": rule.name,
                "figure": figure_of(rule),
                "bound": bound_of(rule),
                "passed": rule.passed,
                "note": rule.note,
            }
            for rule in rules
        ],
        "fixed": _reference(before[-1] if before else None, record["settings"]),
        "judged": _reference(judged, None),
    }


def _reference(entry: Entry | None, criteria: dict[str, Any] | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {
        "entry": entry.sequence,
        "time": entry.time.isoformat(timespec="seconds"),
        "digest": entry.digest,
        "same_criteria": criteria is None or entry.details.get("criteria") == criteria,
    }


def _results(evidence: dict[str, Any]) -> dict[str, Any]:
    """All figures on the test images, and those of each subgroup."""
    measured = evidence.get("measured", {})
    return {
        "images": measured.get("n"),
        "groups": measured.get("groups"),
        "level": measured.get("level"),
        "figures": measured.get("figures", {}),
        "confusion": evidence.get("confusion"),
        "subgroups": [_subgroup(each) for each in evidence.get("slices", [])],
    }


def _subgroup(found: dict[str, Any]) -> dict[str, Any]:
    figures = found.get("figures") or {name: value for name, value in found.items() if isinstance(value, dict)}
    return {**{name: found[name] for name in ("field", "value", "n", "groups")}, "figures": figures}


def _confidence(bundle: Bundle | DetectorBundle, evidence: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"familiarity": evidence.get("familiarity")}
    if isinstance(bundle, DetectorBundle):
        return {**told, "min_score": bundle.min_score, "rule": evidence.get("rule")}
    answers = evidence.get("answers", [])
    given = [each for each in answers if max(each["probabilities"]) >= bundle.min_confidence]
    return {
        **told,
        "temperature": bundle.temperature,
        "min_confidence": bundle.min_confidence,
        "rule": evidence.get("calibration", {}).get("rule"),
        "calibration_error": evidence.get("test_ece"),
        "unsure": len(answers) - len(given),
        "answered": len(given),
        "answered_right": sum(each["truth"] == each["predicted"] for each in given),
    }


def _thin(evidence: dict[str, Any], settings: Settings) -> list[str]:
    """Name the subgroups of which there are too few test images to say anything."""
    few = [
        f"{each['field']} {each['value']} ({each['n']} images of {each['groups']} groups)"
        for each in evidence.get("slices", [])
        if each["n"] < settings.gate.slice_images or each["groups"] < settings.gate.slice_groups
    ]
    if not few:
        return []
    told = ", ".join(few[:20]) + (f" and {len(few) - 20} more" if len(few) > 20 else "")
    return [f"Too few test images to hold a subgroup to a margin of its own: {told}."]
