"""Promotion: who becomes champion, after which verdict, and the way back.

The alias ``champion`` is the one point of decision. What goes before it (verdict, predecessor) means
nothing until it moves, and what comes after (``previous``, ``challenger``) follows from it: ``settle``
derives it anew at the start of every operation, so that a crash anywhere leaves the old or the new state.
"""

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from components.errors import InputError, IntegrityError, RegistryError
from components.evaluation.verdict import Rule, Verdict
from components.registry.versions import Alias, ModelVersion, Registry, named
from components.settings import GateSettings

if TYPE_CHECKING:
    from components.evaluation.judging import AnyScored

VERDICT_FILE = "verdict.json"
PREDECESSOR_TAG, ROLLED_BACK_TAG, VERDICT_TAG = "predecessor", "rolled_back", "verdict"

_ATTEMPTS = 3


@dataclass(frozen=True)
class Exam:
    """What models are judged on.

    Attributes:
        store_uri: Object store of the images.
        split_id: Split whose test part is scored.
        home: Where bundles and decoded images are cached.
    """

    store_uri: str
    split_id: str
    home: Path

    def score(self, registry: Registry, version: ModelVersion, rival: "AnyScored | None" = None) -> "AnyScored":
        """Score a version's bundle, as the registry holds it now, on the test images."""
        from components.evaluation.judging import score_version

        bundle = registry.download(version.name, version.version, self.home / "models")
        return score_version(self.store_uri, self.split_id, bundle, self.home / "cache", rival)


@dataclass(frozen=True)
class Override:
    """A person's decision to promote whatever the gate says."""

    reason: str
    by: str | None = None

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise InputError("promoting past the gate needs a reason; it is kept with the model")


@dataclass(frozen=True)
class Promotion:
    """How a promotion ended.

    Attributes:
        passed: Whether the version is the champion now.
        reasons: What spoke against it, or why nothing had to be done.
        rules: The gate's rules with their figures; empty where nothing was judged.
        champion: Version that serves now.
        previous: Version that a rollback would return to.
        forced: Whether it took an override.
    """

    passed: bool
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]
    champion: str | None
    previous: str | None
    forced: bool = False


def promote(
    registry: Registry,
    name: str,
    which: str,
    exam: Exam,
    settings: GateSettings,
    override: Override | None = None,
) -> Promotion:
    """Judge a version against floors and champion, and make it the champion if it passes.

    Both are scored afresh on the same test images. The version that is champion already passes
    without being judged again.

    Args:
        registry: Where the model lives.
        name: Registered model.
        which: Version number or alias.
        exam: What they are judged on.
        settings: Floors and margins.
        override: Promotes a refused version, too.

    Raises:
        InputError: if there is no such version.
        IntegrityError: if one of the two is not what was registered.
        RegistryError: if MLflow fails, or the champion changes again and again meanwhile.
    """
    with registry.lock(f"{name}.promotion"):
        challenger = registry.show(name, which)
        for _ in range(_ATTEMPTS):
            champion = settle(registry, name)
            if champion is not None and champion.version == challenger.version:
                return _result(registry, name, None)
            judged = _judged(registry, challenger, champion, exam, settings, override)
            if _version(registry.champion(name)) == _version(champion):  # nobody promoted another meanwhile
                break
        else:
            raise RegistryError(f"the champion of {name} changed {_ATTEMPTS} times while {which} was judged; try again")
        _record(registry, judged, exam, settings)
        if judged.promoted:
            _crown(registry, challenger, champion)
        return _result(registry, name, judged)


def rollback(registry: Registry, name: str, reason: str, by: str | None = None) -> ModelVersion:
    """Make the previous champion the champion again; a version rolled back stays out until promoted anew.

    Returns:
        The champion now.

    Raises:
        InputError: if there is no champion, or none before it.
    """
    with registry.lock(f"{name}.promotion"):
        champion = settle(registry, name)
        versions = registry.existing(name)
        if champion is None:
            raise InputError(f"model {name} has no champion to roll back; promote a version first")
        earlier = _earlier(versions, champion)
        if earlier is None:
            raise InputError(
                f"version {champion.version} of {name} has no predecessor to roll back to; promote another version"
            )
        _dethrone(registry, champion, earlier, reason, by)
        return registry.show(name, earlier.version)


def withdraw(registry: Registry, name: str, version: str, reason: str) -> ModelVersion | None:
    """Undo the promotion of a version that then failed to serve.

    Unlike ``rollback`` it leaves no champion where there was none before, and does nothing if another
    version is champion by now.

    Returns:
        The champion now, None if there is none.
    """
    with registry.lock(f"{name}.promotion"):
        champion = settle(registry, name)
        if champion is not None and champion.version == version:
            earlier = _earlier(registry.versions(name), champion)
            _dethrone(registry, champion, earlier, reason, None)
        return registry.champion(name)


def settle(registry: Registry, name: str) -> ModelVersion | None:
    """Finish what a crash may have left undone, and give the champion.

    ``previous`` is made to name the champion's predecessor, and ``challenger`` not to name the champion.
    """
    versions = registry.versions(name)
    champion = named(versions, Alias.CHAMPION)
    earlier = _earlier(versions, champion) if champion else None
    previous = named(versions, Alias.PREVIOUS)
    if earlier is None and previous is not None:
        registry.drop_alias(name, Alias.PREVIOUS)
    elif earlier is not None and earlier != previous:
        registry.set_alias(earlier, Alias.PREVIOUS)
    if champion is None:
        return None
    if Alias.CHALLENGER in champion.aliases:
        registry.drop_alias(name, Alias.CHALLENGER)
    if ROLLED_BACK_TAG in champion.tags:  # begun, but the alias never moved
        registry.tag(champion, {ROLLED_BACK_TAG: None})
    return champion


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
    if text := version.tags.get(ROLLED_BACK_TAG):
        note = json.loads(text)
        successor = f"version {note['to']}" if note["to"] else "no version"
        told.append(f"Rolled back to {successor} at {note['at']} by {note['by'] or 'mscflow'}: {note['reason']}")
    return told


@dataclass(frozen=True)
class _Judged:
    """A verdict, and what it was reached with.

    Attributes:
        excuse: Why the champion was left out, if it had to be.
        override: A person's decision, if it took one.
    """

    challenger: ModelVersion
    champion: ModelVersion | None
    verdict: Verdict
    excuse: str | None
    override: Override | None

    @property
    def promoted(self) -> bool:
        return self.verdict.passed or self.override is not None

    @property
    def gate(self) -> str:
        return "forced" if self.override else "passed" if self.verdict.passed else "refused"


def _judged(
    registry: Registry,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    exam: Exam,
    settings: GateSettings,
    override: Override | None,
) -> _Judged:
    from components.evaluation.judging import judge_version

    candidate = exam.score(registry, challenger)
    holder, excuse = None, None
    if champion is not None:
        try:
            holder = exam.score(registry, champion, candidate)
        except (IntegrityError, RegistryError) as error:
            if override is None:
                raise type(error)(
                    f"{error}; so version {challenger.version} cannot be compared with the champion, version "
                    f"{champion.version}: mend that, roll back, or force the promotion with a reason"
                ) from error
            excuse = f"the champion, version {champion.version}, is broken: {error}"
    verdict = judge_version(candidate, holder, settings)
    needed = not verdict.passed or excuse is not None
    return _Judged(challenger, champion, verdict, excuse, override if needed else None)


def _record(registry: Registry, judged: _Judged, exam: Exam, settings: GateSettings) -> None:
    """Keep the verdict with the version; earlier verdicts stay."""
    now = datetime.now(UTC)
    version, champion, override = judged.challenger, judged.champion, judged.override
    content = {
        **msgspec.to_builtins(judged.verdict),
        "model": version.name,
        "version": version.version,
        "champion_version": _version(champion),
        "champion_data_version": champion.data_version if champion else None,
        "split_id": exam.split_id,
        "settings": settings.model_dump(mode="json"),
        "time": now.isoformat(timespec="seconds"),
        "override": {"reason": override.reason, "by": override.by} if override else None,
        "champion_not_judged": judged.excuse,
    }
    folder = f"verdicts/{version.version}/{now:%Y%m%dT%H%M%S.%f}"
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / VERDICT_FILE
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        registry.log_file(version, file, folder)
    tags = {
        VERDICT_TAG: f"{folder}/{VERDICT_FILE}",
        "gate": judged.gate,
        "gate_reasons": "; ".join(judged.verdict.reasons)[:1000] or None,
        "gate_forced": f"{override.by or 'unknown'}: {override.reason}"[:1000] if override else None,
        "judged_at": now.isoformat(timespec="seconds"),
        "judged_against": _version(champion),
    }
    registry.tag(version, tags)


def _crown(registry: Registry, challenger: ModelVersion, champion: ModelVersion | None) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    tags = {PREDECESSOR_TAG: _version(champion), ROLLED_BACK_TAG: None, "promoted_at": now}
    registry.tag(registry.show(challenger.name, challenger.version), tags)
    registry.set_alias(challenger, Alias.CHAMPION)
    settle(registry, challenger.name)


def _dethrone(
    registry: Registry, champion: ModelVersion, earlier: ModelVersion | None, reason: str, by: str | None
) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"at": now, "reason": reason[:1000], "by": by, "to": _version(earlier)}
    registry.tag(champion, {ROLLED_BACK_TAG: json.dumps(note)})
    if earlier is None:
        registry.drop_alias(champion.name, Alias.CHAMPION)
    else:
        registry.set_alias(earlier, Alias.CHAMPION)
    settle(registry, champion.name)


def _earlier(versions: Iterable[ModelVersion], champion: ModelVersion) -> ModelVersion | None:
    """Give the champion's predecessor, unless it was itself rolled back or deleted since."""
    number = champion.tags.get(PREDECESSOR_TAG)
    return next((each for each in versions if each.version == number and ROLLED_BACK_TAG not in each.tags), None)


def _result(registry: Registry, name: str, judged: _Judged | None) -> Promotion:
    """Tell how it ended; ``judged`` is None where the version was the champion already."""
    versions = registry.versions(name)
    champion, previous = (_version(named(versions, alias)) for alias in (Alias.CHAMPION, Alias.PREVIOUS))
    if judged is None:
        return Promotion(True, (f"version {champion} is the champion already",), (), champion, previous)
    verdict, forced = judged.verdict, judged.override is not None
    return Promotion(judged.promoted, verdict.reasons, verdict.rules, champion, previous, forced)


def _version(version: ModelVersion | None) -> str | None:
    return version.version if version else None
