"""One entry of the audit log: a deed, who did it, when and why, sealed and tied to the entry before."""

import getpass
import hashlib
import os
import re
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec

from components.errors import IntegrityError
from components.provenance import code_version, environment

FORMAT = "mscflow-audit/1"
FOLDER = "audit/"
ACTOR_VARIABLE = "MSCFLOW_ACTOR"

_KEY = re.compile(re.escape(FOLDER) + r"(\d{8,})\.json")


class Deed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an entry tells.

    Attributes:
        action: What was done, such as ``model.promoted``.
        subject: To what, such as ``confluence-single-stack/3``.
        actor: Who or what did it.
        reason: Why; may be empty where the details say it.
        details: What else must be known, JSON-able.
        id: Its own; the same deed told twice is entered once.
    """

    action: str
    subject: str
    actor: str
    reason: str = ""
    details: dict[str, Any] = {}
    id: str = msgspec.field(default_factory=lambda: uuid4().hex)


class Entry(Deed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A deed at its place in the log.

    Attributes:
        sequence: Its place, from 0.
        time: When it was entered, in UTC.
        code_version: Of the mscflow that entered it.
        environment: Python, machine and libraries that it ran on.
        before: Digest of the entry before; None for the first.
        digest: SHA-256 of all the rest in canonical JSON.
    """

    sequence: int
    time: datetime
    code_version: str
    environment: dict[str, str]
    before: str | None
    digest: str = ""
    format: str = FORMAT

    @property
    def intact(self) -> bool:
        """Whether the seal is that of the content."""
        return self.digest == seal(self)


def deed(action: str, subject: str, *, actor: str, reason: str = "", details: Mapping[str, Any] | None = None) -> Deed:
    """Make a deed whose details are plain JSON, whatever was given (dates, paths and enums become text)."""
    plain = msgspec.json.decode(msgspec.json.encode(dict(details or {}), enc_hook=str))
    return Deed(action=action, subject=subject, actor=actor, reason=reason, details=plain)


def sealed(told: Deed, sequence: int, before: str | None) -> Entry:
    """Make the entry of a deed at a place, after an entry of the given digest."""
    entry = Entry(
        **msgspec.structs.asdict(told),
        sequence=sequence,
        time=datetime.now(UTC),
        code_version=code_version(),
        environment=environment(),
        before=before,
    )
    return msgspec.structs.replace(entry, digest=seal(entry))


def encode(entry: Entry) -> bytes:
    """Give the one form in which an entry is stored."""
    return msgspec.json.encode(entry, order="sorted") + b"\n"


def decode(content: bytes, where: str) -> Entry:
    """Read an entry back.

    Raises:
        IntegrityError: if this is not the one form of an entry.
    """
    try:
        entry = msgspec.json.decode(content, type=Entry)
    except msgspec.MsgspecError as error:
        raise IntegrityError(f"{where} is no entry of the audit log ({error}); restore it from a copy") from error
    if encode(entry) != content:
        raise IntegrityError(f"{where} is not written as mscflow writes entries; restore it from a copy")
    return entry


def entry_key(sequence: int) -> str:
    """Give the key of the entry at a place."""
    return f"{FOLDER}{sequence:08}.json"


def place_of(key: str) -> int | None:
    """Give the place that a key stands for, None if it is no entry's."""
    match = _KEY.fullmatch(key)
    return int(match[1]) if match and entry_key(int(match[1])) == key else None


def this_actor() -> str:
    """Give who acts: ``MSCFLOW_ACTOR``, such as a service's name, else the account and the machine."""
    given = os.environ.get(ACTOR_VARIABLE, "").strip()
    return given or f"{getpass.getuser()}@{socket.gethostname()}"


def seal(entry: Entry) -> str:
    """Give the digest that an entry must have."""
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(entry, digest=""), order="sorted")).hexdigest()
