"""The champion: how a version becomes it, and the way back.

The alias ``champion`` is the one point of decision. What goes before it (verdict, predecessor) means
nothing until it moves, and what comes after (``previous``, ``challenger``, the log's entry) follows from it:
``settle`` derives it anew at the start of every operation, so that a crash anywhere leaves the old or the new state.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from components.errors import InputError
from components.registry import journal, reconciliation
from components.registry.verdicts import AWAITING_TAG, ROLLED_BACK_TAG
from components.registry.versions import Alias, ModelVersion, Registry, named

PREDECESSOR_TAG = "predecessor"


def settle(registry: Registry, name: str) -> ModelVersion | None:
    """Finish what a crash may have left undone, and give the champion.

    The log is made truthful, ``previous`` is made to name the champion's predecessor, and ``challenger`` not to name
    the champion.
    """
    versions = registry.versions(name)
    reconciliation.finish_pending(registry, versions)
    before = reconciliation.reconcile(registry, name, versions)
    champion = named(versions, Alias.CHAMPION)
    if champion is not None and before is not None and PREDECESSOR_TAG not in champion.tags:
        registry.tag(champion, {PREDECESSOR_TAG: before})  # moved by hand, it can be rolled back all the same
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
    stale = [tag for tag in (ROLLED_BACK_TAG, AWAITING_TAG) if tag in champion.tags]
    registry.tag(champion, dict.fromkeys(stale))  # begun, but the alias never moved; or moved, and not yet cleared
    return champion


def crown(
    registry: Registry,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    action: str,
    *,
    tags: Mapping[str, str | None] | None = None,
    details: Mapping[str, Any] | None = None,
    **about: Any,
) -> None:
    """Make a version the champion in place of another.

    Args:
        registry: Where they live.
        challenger: The version.
        champion: What it replaces.
        action: What the log calls it.
        tags: What to record with the version besides.
        details: What to enter in the log besides.
        about: ``actor`` and ``reason`` of the entry.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    own = {PREDECESSOR_TAG: champion.version if champion else None, ROLLED_BACK_TAG: None, "promoted_at": now}
    registry.tag(registry.show(challenger.name, challenger.version), {**own, **(tags or {})})
    told = {
        **journal.facts(challenger),
        **journal.crown(challenger),
        "replaced": champion.version if champion else None,
        "replaced_digest": champion.digest if champion else None,
        **(details or {}),
    }
    pending = journal.begin(registry, challenger, action, details=told, **about)
    registry.set_alias(challenger, Alias.CHAMPION)
    journal.finish(registry, challenger, pending)
    settle(registry, challenger.name)


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
        _dethrone(registry, champion, earlier, "model.rolled_back", reason, by)
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
            _dethrone(registry, champion, earlier, "model.withdrawn", reason, None)
        return registry.champion(name)


def _dethrone(
    registry: Registry,
    champion: ModelVersion,
    earlier: ModelVersion | None,
    action: str,
    reason: str,
    by: str | None,
) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    note = {"at": now, "reason": reason[:1000], "by": by, "to": earlier.version if earlier else None}
    told = {**journal.facts(champion), **journal.crown(earlier)}
    pending = journal.begin(registry, champion, action, actor=by, reason=reason[:2000], details=told)
    registry.tag(champion, {ROLLED_BACK_TAG: json.dumps(note)})
    if earlier is None:
        registry.drop_alias(champion.name, Alias.CHAMPION)
    else:
        registry.set_alias(earlier, Alias.CHAMPION)
    journal.finish(registry, champion, pending)
    settle(registry, champion.name)


def _earlier(versions: Iterable[ModelVersion], champion: ModelVersion) -> ModelVersion | None:
    """Give the champion's predecessor, unless it was itself rolled back or deleted since."""
    number = champion.tags.get(PREDECESSOR_TAG)
    return next((each for each in versions if each.version == number and ROLLED_BACK_TAG not in each.tags), None)
