"""What an endpoint on a cluster serves and who is changing it, noted in the object store.

It is not noted in the InferenceService: KServe passes annotations on to the pods, and each new word would start
them anew. Two rollouts at once take turns by compare-and-swap of this one object.
"""

import os
import time
import uuid

import msgspec

from components.errors import ConflictError, DeploymentError, ObjectNotFound
from components.patience import RUN_VARIABLE
from components.storage import ObjectStore

POLL_SECONDS = 2.0


class Turn(msgspec.Struct, frozen=True):
    """A rollout under way.

    Attributes:
        id: Of this attempt.
        owner: The pipeline run, whose next attempt need not wait for one that was killed.
        until: Seconds since 1970, when it has ended one way or the other.
    """

    id: str
    owner: str
    until: float


class Standing(msgspec.Struct, frozen=True):
    """What is known of an endpoint.

    Attributes:
        release: URI of the release that passed its checks last, and serves.
        turn: Who is changing it; None where nobody is.
    """

    release: str | None = None
    turn: Turn | None = None


class Standings:
    """The standing of one endpoint.

    Args:
        store: Object store that it is noted in.
        namespace: Of the InferenceService.
        service: Its name.
    """

    def __init__(self, store: ObjectStore, namespace: str, service: str) -> None:
        self._store = store
        self._key = f"rollouts/{namespace}/{service}.json"

    def read(self) -> Standing:
        """Give it; one of an endpoint that was never rolled out to is empty."""
        return self._tagged()[0]

    def take_turn(self, seconds: float, patience: float) -> Turn:
        """Wait until nobody else is changing the endpoint, and be who does.

        Args:
            seconds: After which others may hold this rollout for dead.
            patience: Seconds to wait.

        Raises:
            DeploymentError: if another rollout is under way for all this time.
        """
        own = Turn(uuid.uuid4().hex, os.environ.get(RUN_VARIABLE) or uuid.uuid4().hex, time.time() + seconds)
        deadline = time.monotonic() + patience
        while True:
            standing, tag = self._tagged()
            other = standing.turn
            if other is None or other.owner == own.owner or other.until < time.time():
                try:
                    self._write(Standing(standing.release, own), tag)
                except ConflictError:
                    continue
                return own
            if time.monotonic() > deadline:
                raise DeploymentError(
                    f"another rollout to it is under way ({other.owner}); wait until it has ended, then roll out again"
                )
            time.sleep(POLL_SECONDS)

    def end_turn(self, turn: Turn, release: str | None) -> None:
        """Let others change the endpoint; nothing is noted by one who was held for dead.

        Args:
            turn: That which ends.
            release: URI of what serves now; None if that is what served before.
        """
        while True:
            standing, tag = self._tagged()
            if standing.turn is None or standing.turn.id != turn.id:
                return
            try:
                self._write(Standing(release or standing.release), tag)
            except ConflictError:
                continue
            return

    def _tagged(self) -> tuple[Standing, str | None]:
        try:
            content, tag = self._store.read_tagged(self._key)
        except ObjectNotFound:
            return Standing(), None
        try:
            return msgspec.json.decode(content, type=Standing), tag
        except msgspec.DecodeError as error:
            raise DeploymentError(f"{self._key} of {self._store.uri} cannot be read: {error}; delete it") from error

    def _write(self, standing: Standing, tag: str | None) -> None:
        self._store.replace(self._key, msgspec.json.encode(standing), tag)
