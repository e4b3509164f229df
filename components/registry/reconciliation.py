"""The log made truthful again after a crash, and about what was changed behind its back."""

from collections.abc import Sequence

import msgspec

from components.audit.entry import Entry
from components.registry import journal
from components.registry.journal import ANCHOR_TAG, CHAMPION, CHAMPION_DIGEST, PENDING_TAG, Pending
from components.registry.verdicts import VERDICT_TAG
from components.registry.versions import Alias, ModelVersion, Registry, named

RECONCILED = "model.reconciled"


def finish_pending(registry: Registry, versions: Sequence[ModelVersion]) -> None:
    """Enter the deeds that were done and not entered, and drop those that were never done."""
    if registry.audit is None:
        return
    for version in versions:
        for tag, text in version.tags.items():
            if not tag.startswith(PENDING_TAG):
                continue
            pending = journal.read(text)
            if pending is not None and _was_done(pending, version, versions):
                late = {**pending.deed.details, "entered_after_a_crash": True}
                told = msgspec.structs.replace(pending.deed, details=late)
                journal.finish(registry, version, Pending(told, pending.since))
            else:
                registry.untag(version, tag)


def reconcile(registry: Registry, name: str, versions: Sequence[ModelVersion]) -> str | None:
    """Tell of versions and champions that no entry tells of.

    Returns:
        The version that was champion before, by the log, if another is now.
    """
    if registry.audit is None or not versions:
        return None
    for version in reversed(versions):
        if version.digest and not any(tag.startswith((ANCHOR_TAG, PENDING_TAG)) for tag in version.tags):
            reason = "it was registered before this log began, or outside mscflow"
            journal.tell(registry, version, RECONCILED, journal.facts(version), reason=reason)
    said, champion = journal.last_crown(registry.audit, name), named(versions, Alias.CHAMPION)
    if (said.details[CHAMPION_DIGEST] if said else None) == (champion.digest if champion else None):
        return None
    told = {**(journal.facts(champion) if champion else {}), **journal.crown(champion)}
    journal.tell(registry, champion or versions[0], RECONCILED, told, reason=unrecorded(said, champion))
    return said.details[CHAMPION] if said else None


def unrecorded(said: Entry | None, champion: ModelVersion | None) -> str:
    """Say in what the registry's champion differs from what the log said last."""
    now = f"version {champion.version}" if champion else "no version"
    if said is None:
        return f"{now} is champion by no entry of this log: it became so before the log began, or outside mscflow"
    before = f"version {said.details[CHAMPION]}" if said.details[CHAMPION] else "no version"
    return (
        f"entry {said.sequence} left {before} champion, but the registry names {now}: the alias was moved outside "
        "mscflow, or by two machines at once"
    )


def _was_done(pending: Pending, version: ModelVersion, versions: Sequence[ModelVersion]) -> bool:
    """Whether the registry looks as it does after the deed."""
    details = pending.deed.details
    if CHAMPION_DIGEST in details:
        champion = named(versions, Alias.CHAMPION)
        return journal.crown(champion) == {key: details[key] for key in (CHAMPION, CHAMPION_DIGEST)}
    if "verdict" in details:
        return bool(version.tags.get(VERDICT_TAG) == details["verdict"])
    return True  # a registration, which came into being together with its tag
