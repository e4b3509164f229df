"""What is done to models, entered in the audit log, and the entries' digests anchored in the registry.

MLflow changes one thing at a time, and the log lies elsewhere. So a deed is first written down as pending, in a tag of
the version that it concerns; then it is done; then it is entered, anchored, and pending no more. Whoever comes after
a crash finds the tag, sees from the registry whether the deed was done, and enters it or drops it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from components.audit.entry import Deed, Entry, deed, this_actor
from components.audit.log import AuditLog
from components.audit.verification import Anchor

if TYPE_CHECKING:
    from components.registry.versions import ModelVersion, Registry

REGISTERED = "model.registered"
PENDING_TAG, ANCHOR_TAG = "pending.", "audit."
CHAMPION, CHAMPION_DIGEST = "champion", "champion_digest"  # details of what makes a champion, or leaves none


class Pending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deed that is being done; entered, if it is, at the place ``since`` or later."""

    deed: Deed
    since: int

    @property
    def tag(self) -> str:
        """The tag that it lies in."""
        return f"{PENDING_TAG}{self.deed.action}"

    @property
    def text(self) -> str:
        """What the tag says."""
        return msgspec.json.encode(self).decode()


def prepare(
    log: AuditLog, action: str, *, actor: str | None = None, reason: str = "", details: Mapping[str, Any] | None = None
) -> Pending:
    """Make a deed ready to be written down; its subject is the version that it is written down with."""
    last = log.last_place()
    told = deed(action, "", actor=actor or this_actor(), reason=reason, details=details)
    return Pending(told, 0 if last is None else last + 1)


def begin(registry: "Registry", version: "ModelVersion", action: str, **about: Any) -> Pending | None:
    """Write a deed down before it is done; the keywords are those of ``prepare``.

    Returns:
        What ``finish`` takes; None where the registry has no log.
    """
    if registry.audit is None:
        return None
    pending = prepare(registry.audit, action, **about)
    registry.tag(version, {pending.tag: pending.text})
    return pending


def finish(registry: "Registry", version: "ModelVersion", pending: Pending | None) -> None:
    """Enter a deed that was done, once, whoever else enters it."""
    if registry.audit is None or pending is None:
        return
    told = msgspec.structs.replace(pending.deed, subject=subject(version))
    anchor(registry, version, registry.audit.enter(told, pending.since))
    registry.untag(version, pending.tag)


def registration(registry: "Registry", details: Mapping[str, Any]) -> dict[str, str]:
    """Give the tag that a version comes into being with, so that its registration is entered whatever happens."""
    if registry.audit is None:
        return {}
    pending = prepare(registry.audit, REGISTERED, details=details)
    return {pending.tag: pending.text}


def finish_registration(registry: "Registry", version: "ModelVersion") -> None:
    """Enter a registration that is not yet."""
    if text := version.tags.get(f"{PENDING_TAG}{REGISTERED}"):
        finish(registry, version, read(text))


def read(text: str) -> Pending | None:
    """Read a tag's deed back; None where it is nothing that mscflow wrote."""
    try:
        return msgspec.json.decode(text, type=Pending)
    except msgspec.MsgspecError:
        return None


def tell(
    registry: "Registry", version: "ModelVersion", action: str, details: Mapping[str, Any], *, reason: str = ""
) -> None:
    """Enter something about a version that is true whether or not it is entered, and anchor it."""
    if registry.audit is not None:
        made = registry.audit.append(action, subject(version), actor=this_actor(), reason=reason, details=details)
        anchor(registry, version, made)


def anchor(registry: "Registry", version: "ModelVersion", entry: Entry) -> None:
    """Note an entry's digest in the registry."""
    registry.tag(version, {f"{ANCHOR_TAG}{entry.sequence:08}": entry.digest})


def anchors(versions: Sequence["ModelVersion"]) -> list[Anchor]:
    """Give the digests that the registry noted."""
    return [
        Anchor(int(place), digest, f"the tags of {subject(version)}")
        for version in versions
        for key, digest in version.tags.items()
        if key.startswith(ANCHOR_TAG) and (place := key.removeprefix(ANCHOR_TAG)).isdigit()
    ]


def subject(version: "ModelVersion") -> str:
    """Give what the log calls a version."""
    return f"{version.name}/{version.version}"


def facts(version: "ModelVersion") -> dict[str, str | None]:
    """Give what fixes a version: its bytes, and what they were made from."""
    return {
        "digest": version.digest,
        "data_version": version.data_version,
        "split_id": version.split_id,
        "model_code_version": version.tags.get("code_version"),
        "run_id": version.run_id,
    }


def crown(champion: "ModelVersion | None") -> dict[str, str | None]:
    """Give the details that say who is champion after a deed."""
    return {
        CHAMPION: champion.version if champion else None,
        CHAMPION_DIGEST: champion.digest if champion else None,
    }


def last_crown(log: AuditLog, name: str) -> Entry | None:
    """Give the newest entry that says who is champion of a model."""
    about = (entry for entry in log.newest_first() if entry.subject.startswith(f"{name}/"))
    return next((entry for entry in about if CHAMPION_DIGEST in entry.details), None)
