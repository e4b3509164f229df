"""The audit log: entries in a chain, one object each, which are created and never written again."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from components.audit import entry as entries
from components.audit.entry import FOLDER, Deed, Entry
from components.errors import IntegrityError, StorageError
from components.storage import ObjectStore

_READERS = 16
_ATTEMPTS = 100
_PAUSE = 0.01  # seconds; grows with each appender that came first


class AuditLog:
    """The log of an object store; any number of processes may append to it at once.

    >>> from components.storage import open_store
    >>> log = AuditLog(open_store(folder))
    >>> log.append("batch.admitted", "culture/2026-11-23", actor="operator-1").sequence
    0
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def append(
        self, action: str, subject: str, *, actor: str, reason: str = "", details: Mapping[str, Any] | None = None
    ) -> Entry:
        """Enter a deed after all that were entered before.

        Args:
            action: What was done, such as ``model.promoted``.
            subject: To what.
            actor: Who or what did it; see ``components.audit.entry.this_actor``.
            reason: Why.
            details: What else must be known; dates, paths and enums become text.

        Raises:
            StorageError: if the store refuses, or others keep coming first.
        """
        return self.enter(entries.deed(action, subject, actor=actor, reason=reason, details=details))

    def enter(self, told: Deed, since: int | None = None) -> Entry:
        """Enter a deed; one whose id is found at or after the place ``since`` is not entered again.

        A log that was damaged takes entries as before: what is done now is to be known whatever was done to it.

        Raises:
            StorageError: if the store refuses, or others keep coming first.
        """
        for attempt in range(_ATTEMPTS):
            last = self.last_place()
            if since is not None:
                if found := next((each for each in self.entries(since) if each.id == told.id), None):
                    return found
                since = last + 1 if last is not None else 0
            made = self._sealed(told, last)
            if self.store.create(entries.entry_key(made.sequence), entries.encode(made)):
                return made
            # Where the answer to an upload was lost, the one that came first is this one.
            if (there := self._readable(made.sequence)) is not None and there.id == told.id:
                return there
            time.sleep(_PAUSE * attempt)
        raise StorageError(f"{self.store.uri}: {_ATTEMPTS} entries of others came before this one; try again")

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Give the entries from a place on, the oldest first, without those that cannot be read.

        ``verification.verify`` names what is damaged or missing.
        """
        return self._read_all(place for place in self.places() if place >= start)

    def newest_first(self) -> Iterator[Entry]:
        """Give the entries, the newest first, without those that cannot be read."""
        return self._read_all(reversed(self.places()))

    def last_place(self) -> int | None:
        """Tell the place of the newest entry, None if there is none."""
        return max(self.places(), default=None)

    def places(self) -> list[int]:
        """Give the places that hold something, ascending."""
        found = (entries.place_of(info.key) for info in self.store.list(FOLDER))
        return sorted(place for place in found if place is not None)

    def read(self, place: int) -> Entry:
        """Read what lies at a place.

        Raises:
            ObjectNotFound: if nothing does.
            IntegrityError: if it is no entry.
        """
        key = entries.entry_key(place)
        return entries.decode(self.store.read(key), f"{key} of {self.store.uri}")

    def _sealed(self, told: Deed, last: int | None) -> Entry:
        if last is None:
            return entries.sealed(told, 0, None)
        before = self._readable(last)
        # A damaged entry vouches for nothing; that this one follows it is all that can be said.
        digest = before.digest if before else hashlib.sha256(self.store.read(entries.entry_key(last))).hexdigest()
        return entries.sealed(told, last + 1, digest)

    def _readable(self, place: int) -> Entry | None:
        try:
            return self.read(place)
        except IntegrityError:
            return None

    def _read_all(self, places: Iterable[int]) -> Iterator[Entry]:
        if not self.store.remote:
            yield from filter(None, map(self._readable, places))
            return
        with ThreadPoolExecutor(_READERS) as pool:
            todo = list(places)
            # By the handful, so that who looks for a late entry does not read all of them.
            for first in range(0, len(todo), _READERS):
                yield from filter(None, pool.map(self._readable, todo[first : first + _READERS]))
