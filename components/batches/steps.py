"""What is done before and after the work on a batch, as plain functions: poll claims it, conclude closes it."""

from pathlib import Path
from typing import Any

import msgspec

from components.batches.arrival import Arrival, find_arrivals, identify, look_at
from components.batches.ledger import Ledger
from components.batches.record import FAILED, RUNNING, BatchRecord
from components.errors import DataError, InputError
from components.storage import open_store

ATTEMPTS = 3


def poll(
    watched: str,
    batch: str | None,
    store_uri: str,
    lineage: str,
    home: Path,
    owner: str,
    lease_seconds: float,
    attempts: int = ATTEMPTS,
) -> dict[str, Any]:
    """Claim the oldest complete batch that is due, or the one that is named.

    Due is a batch that nobody has worked on, one whose owner fell silent, and one whose run failed for no fault of
    its input fewer than ``attempts`` times. A batch that was uploaded again is one that was worked on.

    Args:
        watched: Folder or ``s3://`` prefix whose sub-folders are batches.
        batch: Folder or prefix of one batch, instead.
        store_uri: Object store of the lineage.
        lineage: That the batch is to be added to.
        home: Where digests of files that were read before are remembered.
        owner: Who claims it; the same owner may claim again.
        lease_seconds: For how long.
        attempts: Runs that a batch may take.

    Returns:
        ``found``; ``batch`` (its name), ``id``, ``uri``, ``listing`` and ``attempt`` where one was claimed; ``waiting``
        (``name`` and ``reason`` of those that are not complete, or cannot be used yet), ``finished`` (number of those
        that are done with), and ``why`` nothing was found.

    Raises:
        StorageError: if the place cannot be read or the store not be written.
        DataError: if the named batch holds no images.
        InputError: if the named batch is not complete.
    """
    look = _Look(Ledger(open_store(store_uri), lineage), home / "cache", attempts)
    return look.claim(look.arrived(watched, batch), owner, lease_seconds)


def peek(
    watched: str, batch: str | None, store_uri: str, lineage: str, home: Path, owner: str, attempts: int = ATTEMPTS
) -> dict[str, Any]:
    """Tell what ``poll`` would claim now, and claim nothing; the arguments are those of ``poll``.

    Returns:
        ``found``; ``batch``, ``id`` and ``uri`` of the one that is due; ``waiting``, ``finished`` and ``why`` as there.
    """
    look = _Look(Ledger(open_store(store_uri), lineage), home / "cache", attempts)
    due = look.first_due(look.arrived(watched, batch), owner)
    if isinstance(due, str):
        return look.nothing(due)
    arrival, batch_id = due
    return {"found": True, "batch": arrival.name, "id": batch_id, "uri": arrival.uri, **look.seen()}


def conclude(
    store_uri: str, lineage: str, batch_id: str, owner: str, outcome: dict[str, Any], failed: str | None
) -> dict[str, Any]:
    """Write down what came of a batch.

    Returns:
        The ledger's record, JSON-able.

    Raises:
        ConflictError: if the batch has gone to another owner meanwhile.
    """
    record = Ledger(open_store(store_uri), lineage).conclude(batch_id, owner, outcome, failed)
    plain: dict[str, Any] = msgspec.to_builtins(record)
    return plain


class _Look:
    """One look at what has arrived."""

    def __init__(self, ledger: Ledger, cache: Path, attempts: int) -> None:
        self._ledger, self._cache, self._attempts = ledger, cache, attempts
        records = ledger.records()
        self._by_id = {record.id: record for record in records}
        self._by_look = {(record.name, record.listing): record for record in records}
        self._waiting: list[dict[str, str]] = []
        self._finished = 0

    def arrived(self, watched: str, batch: str | None) -> list[Arrival]:
        """Give what has arrived below a place, or the one batch that is named."""
        if batch is None:
            return find_arrivals(open_store(watched, must_exist=True), self._by_look)
        arrival = look_at(batch)
        if arrival.waiting is not None:
            raise InputError(f"batch {batch} is not complete: {arrival.waiting}")
        return [arrival]

    def claim(self, arrivals: list[Arrival], owner: str, seconds: float) -> dict[str, Any]:
        """See ``poll``."""
        due = self.first_due(arrivals, owner)
        if isinstance(due, str):
            return self.nothing(due)
        arrival, batch_id = due
        record = self._ledger.claim(arrival, batch_id, self._by_id.get(batch_id), owner, seconds)
        if record is None:
            return self.nothing("another owner has just begun to work on this lineage")
        return {"found": True, **_claimed(record), **self.seen()}

    def first_due(self, arrivals: list[Arrival], owner: str) -> tuple[Arrival, str] | str:
        """Give the first batch that is to be worked on now and its id, or say why there is none."""
        turn = self._ledger.turn()
        if turn is not None and turn.owner != owner:
            return f"{turn.owner} works on batch {self._name(turn.batch_id)} of lineage '{self._ledger.lineage}'"
        for arrival in arrivals:
            batch_id = self._due(arrival)
            if batch_id is not None:
                return arrival, batch_id
        return "nothing new has arrived"

    def nothing(self, why: str) -> dict[str, Any]:
        """Say that nothing was found."""
        return {"found": False, "why": why, **self.seen()}

    def seen(self) -> dict[str, Any]:
        """Say what is not complete, and how many batches are done with."""
        return {"waiting": self._waiting, "finished": self._finished}

    def _due(self, arrival: Arrival) -> str | None:
        """Give a batch's id if it is to be worked on now."""
        if arrival.waiting is not None:
            self._waiting.append({"name": arrival.name, "reason": arrival.waiting})
            return None
        known = self._by_look.get((arrival.name, arrival.listing))
        if known is None:
            try:
                batch_id = identify(arrival, self._cache)
            except DataError as error:
                self._waiting.append({"name": arrival.name, "reason": str(error)})
                return None
            known = self._by_id.get(batch_id)
            if known is None:
                return batch_id
            self._ledger.seen(known, arrival)  # uploaded again: the next look need not read it
        if self._is_due(known):
            return known.id
        self._finished += 1
        return None

    def _is_due(self, record: BatchRecord) -> bool:
        left = record.attempts < self._attempts
        if record.state == RUNNING:  # its owner fell silent, as the turn is nobody else's
            if not left:
                self._ledger.abandon(record, f"{record.attempts} runs ended without a word (killed, or out of memory?)")
            return left
        # A store or a registry that was away is nobody's input.
        fault = record.outcome.get("exit_code") == InputError.exit_code and not record.outcome.get("outage")
        return record.state == FAILED and not fault and left

    def _name(self, batch_id: str) -> str:
        record = self._by_id.get(batch_id)
        return record.name if record else batch_id[:12]


def _claimed(record: BatchRecord) -> dict[str, Any]:
    return {
        "batch": record.name,
        "id": record.id,
        "uri": record.uri,
        "listing": record.listing,
        "images": record.images,
        "attempt": record.attempts,
    }
