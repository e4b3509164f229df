"""Keeping the turn while a batch is worked on, and stopping the work once the turn is lost."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from components.batches.ledger import Ledger
from components.batches.record import RUNNING
from components.errors import ConflictError, MscflowError, StorageError

_RENEWALS = 4  # in the time of a lease, so that a store that is away for a moment costs none


class TurnLost(KeyboardInterrupt):
    """The batch is in other hands, as this process was silent for too long; what is in work stops as by Ctrl-C."""


class Lease:
    """Renews a turn from the moment that a run's ``poll`` has claimed it; used as a context manager in the main thread.

    ``TurnLost`` is raised in the middle of the block if another owner took over. A store that cannot be reached is no
    loss: nobody else can reach it either.

    Args:
        ledger: Of the lineage.
        owner: Whose turn it is.
        seconds: How long the turn is kept beyond each renewal.
    """

    def __init__(self, ledger: Ledger, owner: str, seconds: float) -> None:
        self._ledger, self._owner, self._seconds = ledger, owner, seconds
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost = ""

    def __enter__(self) -> Self:
        # A signal, as nothing else ends a call in which the main thread waits for a step.
        self._before = signal.signal(signal.SIGUSR1, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)

    def observe(self, event: dict[str, Any]) -> None:
        """Take a run's event; called from any thread."""
        if (event["event"], event.get("step")) == ("finished", "poll") and event["result"]["found"]:
            batch_id = event["result"]["id"]
            self._thread = threading.Thread(target=self._keep, args=(batch_id,), name="lease", daemon=True)
            self._thread.start()

    def _keep(self, batch_id: str) -> None:
        while not self._over.wait(self._seconds / _RENEWALS):
            try:
                self._ledger.renew(self._owner, self._seconds)
            except ConflictError as error:
                if not self._is_in_work(batch_id):
                    return  # concluded
                if not self._is_ours():
                    self._lose(str(error))
                    return
            except StorageError:
                continue
            except MscflowError as error:
                self._lose(str(error))
                return

    def _is_in_work(self, batch_id: str) -> bool:
        try:
            record = self._ledger.find(batch_id)
        except MscflowError:
            return True
        return record is None or record.owner != self._owner or record.state == RUNNING

    def _is_ours(self) -> bool:
        try:
            turn = self._ledger.turn()
        except StorageError:
            return True  # it is asked again
        except MscflowError:
            return False
        return turn is not None and turn.owner == self._owner

    def _lose(self, why: str) -> None:
        if not self._over.is_set():
            self._lost = why
            os.kill(os.getpid(), signal.SIGUSR1)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        raise TurnLost(self._lost)
