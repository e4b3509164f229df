"""Promotion: a version judged against floors and champion, and made the champion if it passes.

Under the policy ``approval`` it then waits for a person; see ``components.registry.approval``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import IntegrityError, RegistryError
from components.evaluation.verdict import Rule
from components.registry import journal, verdicts
from components.registry.crown import crown, settle
from components.registry.verdicts import Judged, Override
from components.registry.versions import Alias, ModelVersion, Registry, named
from components.settings import GateSettings

if TYPE_CHECKING:
    from components.evaluation.judging import AnyScored

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
class Promotion:
    """How a promotion ended.

    Attributes:
        passed: Whether the version is the champion now.
        reasons: What spoke against it, or why nothing had to be done.
        rules: The gate's rules with their figures; empty where nothing was judged.
        champion: Version that serves now.
        previous: Version that a rollback would return to.
        forced: Whether it took an override.
        awaits_approval: Whether it passed, and becomes champion once a person approves it.
    """

    passed: bool
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]
    champion: str | None
    previous: str | None
    forced: bool = False
    awaits_approval: bool = False


def promote(
    registry: Registry,
    name: str,
    which: str,
    exam: Exam,
    settings: GateSettings,
    override: Override | None = None,
) -> Promotion:
    """Judge a version against floors and champion, and make it the champion if it passes.

    Both are scored afresh on the same test images, after the criteria were entered in the audit log. The version
    that is champion already passes without being judged again.

    Args:
        registry: Where the model lives.
        name: Registered model.
        which: Version number or alias.
        exam: What they are judged on.
        settings: Floors and margins, and whether a person has to approve.
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
            _submit(registry, challenger, champion, exam, settings)
            judged = _judged(registry, challenger, champion, exam, settings, override)
            if _version(registry.champion(name)) == _version(champion):  # nobody promoted another meanwhile
                break
        else:
            raise RegistryError(f"the champion of {name} changed {_ATTEMPTS} times while {which} was judged; try again")
        verdicts.record(registry, judged)
        if judged.promoted:
            by, why = (override.by, override.reason) if judged.override and override else (None, "the gate passed it")
            crown(registry, challenger, champion, "model.promoted", actor=by, reason=why)
        return _result(registry, name, judged)


def _submit(
    registry: Registry, challenger: ModelVersion, champion: ModelVersion | None, exam: Exam, settings: GateSettings
) -> None:
    """Enter what the version will be held against before anything is scored: criteria, images, champion."""
    told = {
        **journal.facts(challenger),
        "judged_on_split": exam.split_id,
        "against": _version(champion),
        "criteria": settings.model_dump(mode="json"),
    }
    journal.tell(registry, challenger, "model.submitted", told)


def _judged(
    registry: Registry,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    exam: Exam,
    settings: GateSettings,
    override: Override | None,
) -> Judged:
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
    return Judged(challenger, champion, verdict, exam.split_id, settings, excuse, override if needed else None)


def _result(registry: Registry, name: str, judged: Judged | None) -> Promotion:
    """Tell how it ended; ``judged`` is None where the version was the champion already."""
    versions = registry.versions(name)
    champion, previous = (_version(named(versions, alias)) for alias in (Alias.CHAMPION, Alias.PREVIOUS))
    if judged is None:
        return Promotion(True, (f"version {champion} is the champion already",), (), champion, previous)
    verdict, forced, reasons = judged.verdict, judged.override is not None, judged.verdict.reasons
    if judged.awaits:
        number = judged.challenger.version
        way = f"'mscflow models approve {name} {number} --reason WHY' releases it"
        reasons = (f"version {number} passed the gate and waits for a person: {way}",)
    return Promotion(judged.promoted, reasons, verdict.rules, champion, previous, forced, judged.awaits)


def _version(version: ModelVersion | None) -> str | None:
    return version.version if version else None
