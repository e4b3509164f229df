"""What the ledger writes down: of a batch, and of whose turn it is."""

from datetime import datetime
from typing import Any, Literal

import msgspec

State = Literal["running", "done", "failed"]
RUNNING: State = "running"
DONE: State = "done"
FAILED: State = "failed"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a batch's state."""

    time: datetime
    state: State
    owner: str
    note: str = ""


class BatchRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger knows of a batch.

    Attributes:
        name: Of its folder.
        id: Digest of its content; see ``components.batches.arrival``.
        uri: Where it was found last.
        listing: What its files looked like then, without having been read.
        images: Files with an image's extension.
        owner: Who works on it, or did last.
        attempts: Runs that were begun on it, without those that a person interrupted.
        outcome: What came of it; see ``components.batches.outcome``. Empty while it runs.
        history: Every change of its state, the oldest first.
    """

    lineage: str
    name: str
    id: str
    uri: str
    listing: str
    images: int
    state: State
    owner: str
    attempts: int
    outcome: dict[str, Any] = {}
    history: tuple[Move, ...] = ()


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Who works on a lineage; free where ``until`` has passed."""

    owner: str
    batch_id: str
    until: datetime
