"""The ledger of batches: each is worked on once, by one owner at a time, whoever is killed meanwhile.

batches/<lineage>/turn.json    whose turn it is, and until when; one batch of a lineage is worked on at a time
batches/<lineage>/<id>.json    what is known of a batch

Both change by compare-and-swap alone. The turn is a lease: an owner renews it while it works, and whoever finds it
run out takes it over. An owner that comes back too late finds the turn, or the batch, in other hands, and stops.
"""

from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec

from components.batches.arrival import Arrival
from components.batches.record import DONE, FAILED, RUNNING, BatchRecord, Move, Turn
from components.datasets.parallel import parallel_map, threads_for
from components.datasets.refs import is_ref_name
from components.errors import ConflictError, DataError, IntegrityError, ObjectNotFound
from components.storage import ObjectStore

PREFIX = "batches/"
_TURN = "turn"

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


class Ledger:
    """The batches of one lineage.

    Args:
        store: Object store of the lineage.
        lineage: Its name.

    Raises:
        DataError: if no lineage can have this name.
    """

    def __init__(self, store: ObjectStore, lineage: str) -> None:
        if not is_ref_name(lineage):
            raise DataError(f"'{lineage}' cannot name a lineage; use letters, digits, '.', '-' and '_'")
        self._store, self.lineage = store, lineage

    @staticmethod
    def lineages(store: ObjectStore) -> list[str]:
        """Give the names of all lineages that batches were worked on for, ascending."""
        return sorted({info.key.split("/")[1] for info in store.list(PREFIX)})

    def records(self) -> list[BatchRecord]:
        """Give all batches, ascending by name, those of one name by their first attempt."""
        keys = sorted(info.key for info in self._store.list(f"{PREFIX}{self.lineage}/"))
        ids = [name for key in keys if (name := key.rpartition("/")[2].removesuffix(".json")) != _TURN]
        with closing(parallel_map(self.find, ids, threads_for(self._store))) as found:
            records = [record for record in found if record is not None]
        return sorted(records, key=lambda record: (record.name, record.history[0].time))

    def find(self, batch_id: str) -> BatchRecord | None:
        """Give what is known of a batch, None if nothing is."""
        found = self._read(batch_id, BatchRecord)
        return None if found is None else found[0]

    def turn(self) -> Turn | None:
        """Tell who works on the lineage now, None if nobody does."""
        found = self._read(_TURN, Turn)
        return None if found is None or found[0].until <= _now() else found[0]

    def claim(
        self, arrival: Arrival, batch_id: str, known: BatchRecord | None, owner: str, seconds: float
    ) -> BatchRecord | None:
        """Begin to work on a batch that is due, unless somebody works on the lineage.

        Args:
            arrival: The batch as it lies there.
            batch_id: Its id.
            known: What the ledger knew of it when it was found due.
            owner: Who begins.
            seconds: For which the turn is theirs.

        Returns:
            The batch, running; None if another owner has the turn, or has worked on the batch meanwhile.
        """
        if not self._take_turn(batch_id, owner, seconds):
            return None
        found = self._read(batch_id, BatchRecord)
        now, tag = found if found is not None else (None, None)
        if (now and now.history) != (known and known.history):
            self.give_back(owner)
            return None
        move = Move(time=_now(), state=RUNNING, owner=owner)
        record = BatchRecord(
            lineage=self.lineage,
            name=arrival.name,
            id=batch_id,
            uri=arrival.uri,
            listing=arrival.listing,
            images=arrival.images,
            state=RUNNING,
            owner=owner,
            attempts=1 + (known.attempts if known else 0),
            history=(*(known.history if known else ()), move),
        )
        try:
            self._write(batch_id, record, tag)
        except ConflictError:
            self.give_back(owner)
            return None
        return record

    def renew(self, owner: str, seconds: float) -> None:
        """Keep the turn for some seconds from now.

        Raises:
            ConflictError: if it has gone to another owner, or was given back.
        """
        found = self._read(_TURN, Turn)
        if found is None or found[0].owner != owner:
            raise ConflictError(f"the work on lineage '{self.lineage}' was taken over from {owner}, which was silent")
        turn, tag = found
        self._write(_TURN, msgspec.structs.replace(turn, until=_in(seconds)), tag)

    def conclude(self, batch_id: str, owner: str, outcome: dict[str, Any], failed: str | None) -> BatchRecord:
        """Write down what came of a batch and give the turn back; saying the same again changes nothing.

        Args:
            batch_id: The batch's.
            owner: Who worked on it.
            outcome: What came of it.
            failed: Why the run failed; None where it did not.

        Raises:
            ConflictError: if the batch has gone to another owner meanwhile.
        """
        found = self._read(batch_id, BatchRecord)
        if found is None or found[0].owner != owner:
            raise ConflictError(f"batch {batch_id[:12]} of lineage '{self.lineage}' was taken over from {owner}")
        record, tag = found
        if record.state == RUNNING:
            state = FAILED if failed is not None else DONE
            move = Move(time=_now(), state=state, owner=owner, note=failed or "")
            record = msgspec.structs.replace(record, state=state, outcome=outcome, history=(*record.history, move))
            self._write(batch_id, record, tag)
        self.give_back(owner)
        return record

    def release(self, owner: str) -> None:
        """Let the batch in work go at once, as its run was interrupted by a person: it is due for everybody."""
        turn = self._read(_TURN, Turn)
        if turn is None or turn[0].owner != owner:
            return
        found = self._read(turn[0].batch_id, BatchRecord)
        if found is not None and (found[0].owner, found[0].state) == (owner, RUNNING):
            record, tag = found
            move = Move(time=_now(), state=RUNNING, owner=owner, note="interrupted")
            history = (*record.history, move)
            interrupted = msgspec.structs.replace(record, attempts=record.attempts - 1, history=history)
            self._write(record.id, interrupted, tag)
        self.give_back(owner)

    def abandon(self, record: BatchRecord, note: str) -> None:
        """Write down that a batch whose owners fell silent is left to a person, unless somebody works on it again."""
        found = self._read(record.id, BatchRecord)
        if found is None or found[0].history != record.history:
            return
        move = Move(time=_now(), state=FAILED, owner=record.owner, note=note)
        outcome = {"ended": FAILED, "reasons": [note]}
        left = msgspec.structs.replace(found[0], state=FAILED, outcome=outcome, history=(*record.history, move))
        with suppress(ConflictError):  # another watcher has just done the same
            self._write(record.id, left, found[1])

    def reopen(self, batch_id: str, by: str) -> BatchRecord:
        """Let a batch be worked on again, whatever came of it before.

        Raises:
            DataError: if the ledger has no such batch.
            ConflictError: if somebody works on it.
        """
        found, turn = self._read(batch_id, BatchRecord), self.turn()
        if found is None:
            raise DataError(f"lineage '{self.lineage}' knows no batch {batch_id[:12]}; see 'mscflow batches'")
        if turn is not None and turn.batch_id == batch_id:
            raise ConflictError(f"{turn.owner} works on batch {found[0].name}; wait until it is done")
        move = Move(time=_now(), state=FAILED, owner=by, note="to be worked on again")
        history = (*found[0].history, move)
        record = msgspec.structs.replace(found[0], state=FAILED, attempts=0, outcome={}, history=history)
        self._write(batch_id, record, found[1])
        return record

    def seen(self, record: BatchRecord, arrival: Arrival) -> None:
        """Remember what a batch that was worked on looks like now, so that it is not read again."""
        found = self._read(record.id, BatchRecord)
        if found is not None:
            where = msgspec.structs.replace(found[0], listing=arrival.listing, uri=arrival.uri, images=arrival.images)
            with suppress(ConflictError):  # who came first has seen the same
                self._write(record.id, where, found[1])

    def give_back(self, owner: str) -> None:
        """End a turn, if it is this owner's."""
        while (found := self._read(_TURN, Turn)) is not None and found[0].owner == owner:
            with suppress(ConflictError):  # it was being renewed this very moment
                self._write(_TURN, Turn(owner="", batch_id="", until=_now()), found[1])

    def _take_turn(self, batch_id: str, owner: str, seconds: float) -> bool:
        found = self._read(_TURN, Turn)
        turn, tag = found if found is not None else (None, None)
        if turn is not None and turn.until > _now() and turn.owner != owner:
            return False
        try:
            self._write(_TURN, Turn(owner=owner, batch_id=batch_id, until=_in(seconds)), tag)
        except ConflictError:
            return False
        return True

    def _read(self, name: str, kind: type[_Struct]) -> tuple[_Struct, str] | None:
        try:
            content, tag = self._store.read_tagged(self._key(name))
        except ObjectNotFound:
            return None
        try:
            return msgspec.json.decode(content, type=kind), tag
        except msgspec.MsgspecError as error:
            raise IntegrityError(
                f"{self._key(name)} of {self._store.uri} was altered ({error}); restore it from a copy"
            ) from error

    def _write(self, name: str, content: msgspec.Struct, tag: str | None) -> None:
        key, data = self._key(name), msgspec.json.encode(content)
        try:
            self._store.replace(key, data, tag)
        except ConflictError:
            # Nobody else writes these bytes, which say who and when: the write was made, its answer was lost.
            if self._store.read(key) != data:
                raise

    def _key(self, name: str) -> str:
        return f"{PREFIX}{self.lineage}/{name}.json"


def _now() -> datetime:
    return datetime.now(UTC)


def _in(seconds: float) -> datetime:
    return _now() + timedelta(seconds=seconds)
