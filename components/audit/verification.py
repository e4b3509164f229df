"""Whether the log is still what was entered: every altered, removed, reordered or forged entry is named.

Each entry holds the digest of the one before, so that a trusted entry vouches for all before it. Entries are
trusted by their anchors: digests that were noted elsewhere when they were entered, such as in the model registry.
The newest ones, which no anchor covers yet, are checked against each other; were they cut off, nothing here
would show it.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from components.audit.entry import FOLDER, Entry, entry_key, place_of
from components.audit.log import AuditLog
from components.errors import IntegrityError, ObjectNotFound

Kind = Literal["altered", "removed", "reordered", "forged", "foreign"]


class Anchor(NamedTuple):
    """The digest that an entry had when it was made.

    Attributes:
        where: Who noted it, such as ``tags of confluence-single-stack/3``.
    """

    place: int
    digest: str
    where: str


class Fault(NamedTuple):
    """Something that is not as it was entered; ``place`` is None for what is no entry at all."""

    place: int | None
    kind: Kind
    note: str


class Verification(NamedTuple):
    """What a check of the whole log found.

    Attributes:
        readable: The entries that could be read, the oldest first.
        head: Digest of the newest, None if there is none.
        anchors: Digests noted elsewhere that were compared.
        faults: What is not as it was entered, the oldest first.
        doubtful: Places of sound entries that only faulty ones vouch for.
        fresh: Entries after the last anchor.
    """

    readable: tuple[Entry, ...]
    head: str | None
    anchors: int
    faults: tuple[Fault, ...]
    doubtful: tuple[int, ...]
    fresh: int

    @property
    def sound(self) -> bool:
        """Whether nothing is amiss."""
        return not self.faults


def verify(log: AuditLog, anchors: Iterable[Anchor] = ()) -> Verification:
    """Check every entry of a log, and that none is missing.

    Args:
        log: The log.
        anchors: Digests of entries as they were noted elsewhere.

    Raises:
        StorageError: if the store does not answer.
    """
    # Anchors are read before, so that an entry that comes meanwhile is none too few.
    noted = list(anchors)
    found = _Found(log)
    checked = _Walk(found, noted)
    readable = tuple(entry for _, entry in sorted(found.entries.items()))
    return Verification(
        readable=readable,
        head=readable[-1].digest if readable else None,
        anchors=len(noted),
        faults=tuple(sorted([*found.faults, *checked.faults], key=_place)),
        doubtful=tuple(sorted(checked.doubtful)),
        fresh=sum(place > checked.anchored for place in found.entries),
    )


def _place(fault: Fault) -> int:
    return -1 if fault.place is None else fault.place


class _Found:
    """The entries that could be read, at the places that they name themselves.

    Attributes:
        occupied: Places that hold anything.
    """

    def __init__(self, log: AuditLog) -> None:
        self.entries: dict[int, Entry] = {}
        self.faults: list[Fault] = []
        self.occupied: set[int] = set()
        astray: list[tuple[int, Entry]] = []
        for info in log.store.list(FOLDER):
            place = place_of(info.key)
            if place is None:
                self.faults.append(Fault(None, "foreign", f"{info.key} is no entry, and nothing that mscflow wrote"))
            elif (entry := self._read(log, place)) is None:
                continue
            elif entry.sequence == place or not entry.intact:
                self.entries[place] = entry
            else:
                astray.append((place, entry))
        for place, entry in astray:
            self.faults.append(Fault(place, "reordered", f"{entry_key(place)} holds entry {entry.sequence}"))
            if entry.sequence <= max((*self.entries, *self.occupied, place)):
                self.entries.setdefault(entry.sequence, entry)

    def _read(self, log: AuditLog, place: int) -> Entry | None:
        try:
            return log.read(place)
        except ObjectNotFound:
            return None  # gone since it was listed
        except IntegrityError as error:
            self.occupied.add(place)
            self.faults.append(Fault(place, "altered", f"entry {place} was altered: {error}"))
            return None


class _Walk:
    """From the newest entry to the oldest, each held against what vouches for it.

    Attributes:
        anchored: Place of the last anchor.
        trusted: Whether an anchor or the newest entry vouches for the one that is checked, through sound ones alone.
    """

    def __init__(self, found: _Found, anchors: list[Anchor]) -> None:
        self.found = found
        self.noted: dict[int, list[Anchor]] = {}
        for anchor in anchors:
            self.noted.setdefault(anchor.place, []).append(anchor)
        self.faults: list[Fault] = []
        self.doubtful: list[int] = []
        self.anchored = max(self.noted, default=-1)
        self.last = max(self.noted.keys() | found.entries.keys() | found.occupied, default=-1)
        # The newest entry has only its seal, unless it has an anchor.
        self.trusted = True
        vouched: str | None = None
        for place in range(self.last, -1, -1):
            vouched = self._check(place, vouched)

    def _check(self, place: int, vouched: str | None) -> str | None:
        """Check one entry, whose digest must be ``vouched``; give the digest that the one before it must have."""
        self.trusted |= place in self.noted
        entry = self.found.entries.get(place)
        if entry is None:
            if place not in self.found.occupied:
                self.faults.append(Fault(place, "removed", f"entry {place} was removed: {self._trace(place)}"))
            self.trusted = False
            return None
        if fault := self._fault(place, entry, vouched):
            self.faults.append(fault)
            self.trusted = False
            return None
        if not self.trusted:
            self.doubtful.append(place)
        return entry.before or "none"

    def _fault(self, place: int, entry: Entry, vouched: str | None) -> Fault | None:
        if not entry.intact:
            return Fault(place, "altered", f"entry {place} was altered: its own seal does not fit it")
        for anchor in self.noted.get(place, ()):
            if entry.digest != anchor.digest:
                note = f"entry {place} is not the one of digest {anchor.digest[:12]} that {anchor.where} name"
                return Fault(place, "forged", note)
        if vouched is not None and entry.digest != vouched:
            note = f"entry {place} was altered: entry {place + 1} follows one of digest {vouched[:12]}"
            return Fault(place, "altered", note)
        if (place == 0) != (entry.before is None):
            return Fault(place, "altered", f"entry {place} was altered: only the first follows none")
        return None

    def _trace(self, place: int) -> str:
        if anchors := self.noted.get(place):
            return f"{anchors[0].where} name it"
        return f"entry {place + 1} follows it"
