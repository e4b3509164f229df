"""Samples of answered requests, kept in an object store for retraining; docs/serving/feedback.md.

    feedback/records/2026-11-23/101500-3f2a….jsonl   a line an image; one object a batch
    feedback/images/9c41….png                         the bytes of an image, named by their SHA-256

One thread writes, from a queue that is bounded in requests and in bytes. What does not fit, and what the store
does not take, is counted and forgotten: keeping a sample never delays or fails a request.
"""

import hashlib
import logging
import random
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from threading import Condition, Thread
from typing import Literal, NamedTuple

import msgspec

from components.endpoint.prediction import AnyPrediction
from components.errors import StorageError
from components.novelty import TRAITS
from components.storage import ObjectStore, open_store
from serving.logs import Throttle
from serving.model import Answer
from serving.retention import IMAGES, RECORDS, Retention

QUEUE_BYTES = 64_000_000
BATCH = 32
BATCH_SECONDS = 5.0
IDLE_SECONDS = 1.0
# What a stopping endpoint may take to write the last samples.
FLUSH_SECONDS = 5.0
# So that `mscflow data import` takes the images for images.
EXTENSIONS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"II*\x00": "tif", b"MM\x00*": "tif", b"BM": "bmp"}

log = logging.getLogger("mscflow.feedback")
Outcome = Literal["written", "dropped", "failed"]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one image.

    Attributes:
        time: When it was answered, in UTC.
        request: Id of the request, as the log has it.
        protocol: ``v1``, ``v2`` or ``grpc``.
        model: Name that was asked; the prediction says which versions answered.
        image: Key of the image's bytes. They are written after the record and may be missing.
        digest: SHA-256 of the bytes.
        size: Bytes.
        label: None: what the image really shows is for a person to say.
        features: The statistics of the image by name, as ``components.novelty`` has them; None where the model has
            nothing to compare them with.
        prediction: As it was answered; ``novelty`` in it tells how unlike the training images the image is.
    """

    time: str
    request: str
    protocol: str
    model: str
    image: str
    digest: str
    size: int
    label: str | None = None
    features: dict[str, float] | None
    prediction: AnyPrediction


class _Sample(NamedTuple):
    time: datetime
    since: float
    request: str
    protocol: str
    model: str
    answer: Answer

    @property
    def size(self) -> int:
        return sum(len(image) for image in self.answer.images.images)

    def records(self) -> Iterator[tuple[Record, bytes]]:
        """Give the record of each image, and its bytes."""
        answer = self.answer
        for content, prediction, features in zip(
            answer.images.images, answer.predictions, answer.features, strict=True
        ):
            digest = hashlib.sha256(content).hexdigest()
            extension = next((name for start, name in EXTENSIONS.items() if content.startswith(start)), "bin")
            record = Record(
                time=self.time.isoformat(timespec="milliseconds"),
                request=self.request,
                protocol=self.protocol,
                model=self.model,
                image=f"{IMAGES}{digest}.{extension}",
                digest=digest,
                size=len(content),
                features=None if features is None else dict(zip(TRAITS, features.round(4).tolist(), strict=True)),
                prediction=prediction,
            )
            yield record, content


class Feedback:
    """Writes samples of requests to an object store.

    Args:
        rate: Share of the requests that is kept.
        uri: The object store.
        keep_days: Days after which samples are deleted.
        queue: Requests that may wait to be written.
        count: Told what came of so many requests.
    """

    def __init__(
        self, rate: float, uri: str, keep_days: int, queue: int, count: Callable[[Outcome, int], None]
    ) -> None:
        self._rate = rate
        self._uri = uri
        self._queue = queue
        self._count = count
        self._waiting: deque[_Sample] = deque()
        # Of all that were taken and are not written yet, those that are being written with them.
        self._held = 0
        self._bytes = 0
        self._changed = Condition()
        self._stopping = False
        self._store: ObjectStore | None = None
        self._throttle = Throttle(burst=1, rate=1 / 60)
        self._retention = Retention(keep_days)
        # A store that hangs must not keep the process from ending.
        self._thread = Thread(target=self._run, name="feedback", daemon=True)
        self._thread.start()

    def offer(self, request: str, model: str, protocol: str, answer: Answer) -> None:
        """Keep an answered request, if chance picks it and there is room; never waits for the store."""
        if random.random() >= self._rate:  # noqa: S311 - a sample, not a secret
            return
        sample = _Sample(datetime.now(UTC), time.monotonic(), request, protocol, model, answer)
        with self._changed:
            fits = self._held < self._queue and self._bytes + sample.size <= QUEUE_BYTES
            if fits and not self._stopping:
                self._waiting.append(sample)
                self._held += 1
                self._bytes += sample.size
                self._changed.notify()
                return
        self._count("dropped", 1)

    def close(self) -> None:
        """Take no more, and write what waits, for no longer than ``FLUSH_SECONDS``."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(FLUSH_SECONDS)
        if self._held:
            log.warning("%d samples were not written to %s before the end", self._held, self._uri)

    def _run(self) -> None:
        while True:
            batch = self._next_batch()
            if batch:
                outcome: Outcome = "written" if self._tried(partial(self._write, batch)) else "failed"
                self._count(outcome, len(batch))
                with self._changed:
                    self._held -= len(batch)
                    self._bytes -= sum(sample.size for sample in batch)
            elif self._stopping:
                return
            elif self._retention.busy:
                self._tried(lambda: self._retention.step(self._open()))

    def _next_batch(self) -> list[_Sample]:
        """Give the samples that are due; none when there is time for something else."""
        with self._changed:
            if not self._changed.wait_for(self._batch_is_due, 0 if self._retention.busy else IDLE_SECONDS):
                return []
            return [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]

    def _batch_is_due(self) -> bool:
        aged = self._waiting and self._waiting[0].since + BATCH_SECONDS <= time.monotonic()
        return bool(aged) or len(self._waiting) >= BATCH or self._stopping

    def _tried(self, work: Callable[[], None]) -> bool:
        """Do something with the store; if it fails, say so now and then."""
        try:
            work()
        except Exception as error:
            # Whatever a store does wrong, the thread must live to try again.
            if (held_back := self._throttle.admit("store")) is not None:
                fields = {"held_back": held_back} if held_back else {}
                unknown = None if isinstance(error, StorageError) else error
                log.warning("feedback is not kept: %s", error, exc_info=unknown, extra={"fields": fields})
            return False
        return True

    def _open(self) -> ObjectStore:
        if self._store is None:
            self._store = open_store(self._uri)
        return self._store

    def _write(self, batch: list[_Sample]) -> None:
        records = [record for sample in batch for record in sample.records()]
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record, _ in records)
        images = {record.image: content for record, content in records}
        # The record comes first: an image that no record names would never be deleted.
        self._open().write(f"{RECORDS}{batch[0].time:%Y-%m-%d/%H%M%S}-{uuid.uuid4().hex}.jsonl", lines)
        self._retention.spare(images)
        for key, content in images.items():
            self._open().ensure(key, content, len(content))
