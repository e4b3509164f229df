"""Deleting samples that are too old, with the images that no younger record names."""

import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from components.storage import ObjectStore

RECORDS = "feedback/records/"
IMAGES = "feedback/images/"
EVERY_SECONDS = 3600.0

_DAY = re.compile(rf"{RECORDS}(\d{{4}}-\d{{2}}-\d{{2}})/")


class _Named(msgspec.Struct):
    image: str


_named = msgspec.json.Decoder(_Named)


class Retention:
    """Once an hour goes through the records, a little at a time, so that what is to be written need not wait.

    Args:
        keep_days: Whole days that records are kept.
    """

    def __init__(self, keep_days: int) -> None:
        self._keep_days = keep_days
        self._due = time.monotonic()
        self._steps: Iterator[None] | None = None
        self._doomed: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether there is something to do now."""
        return self._steps is not None or time.monotonic() >= self._due

    def step(self, store: ObjectStore) -> None:
        """Do a little: one object is listed, read or deleted.

        Raises:
            StorageError: if the store does not take part; the next try is an hour later.
        """
        self._due = time.monotonic() + EVERY_SECONDS
        steps, self._steps = self._steps or self._sweep(store), None
        for _ in steps:
            self._steps = steps
            return

    def spare(self, images: Iterable[str]) -> None:
        """Keep images that a new record names; call it after the record was written."""
        self._doomed.difference_update(images)

    def _sweep(self, store: ObjectStore) -> Iterator[None]:
        first_kept = (datetime.now(UTC) - timedelta(days=self._keep_days)).date().isoformat()
        old: list[str] = []
        young: list[str] = []
        for info in store.list(RECORDS):
            day = _DAY.match(info.key)
            if day:
                (old if day[1] < first_kept else young).append(info.key)
            yield
        self._doomed = set()
        for key in old:
            self._doomed.update(_images(store.read(key)))
            yield
        for key in young if self._doomed else ():
            self._doomed.difference_update(_images(store.read(key)))
            yield
        # Images go first: a sweep that breaks off leaves the records that name the rest.
        while self._doomed:
            store.delete(self._doomed.pop())
            yield
        for key in old:
            store.delete(key)
            yield


def _images(lines: bytes) -> Iterator[str]:
    """Give the images that records name; a line that a power failure cut short names none."""
    for line in lines.splitlines():
        try:
            image = _named.decode(line).image
        except msgspec.DecodeError:
            continue
        # A record decides what is deleted, so that it must not name anything else.
        if image.startswith(IMAGES):
            yield image
