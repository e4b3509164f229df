"""Ending a step whose runner has died: nobody waits for it, and another may already be doing its work again.

A runner that is killed cannot stop its steps. It holds a lock on a file beside its events, which the system lets go of
at the moment of its death, and each step waits for that lock. A runner that ends by itself takes the file away.
"""

import fcntl
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO

_SUFFIX = ".runner"


@contextmanager
def alive(events: Path) -> Iterator[None]:
    """Say for the time of the block that this process is a runner that lives.

    Args:
        events: File that its steps write their events to.
    """
    path = events.with_suffix(_SUFFIX)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink()


def end_with_runner(events: Path) -> None:
    """End this process and those that it started once its runner has died; nothing happens where there is none."""
    with suppress(OSError):
        file = events.with_suffix(_SUFFIX).open("rb")
        threading.Thread(target=_wait, args=(file,), name="lifeline", daemon=True).start()


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """Let SIGTERM, by which a cluster cancels a step, end it as an error would, so that what it began is undone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _wait(file: IO[bytes]) -> None:
    import psutil

    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        if os.fstat(file.fileno()).st_nlink == 0:
            return  # it ended by itself
        session = os.getsid(0)
        for child in psutil.Process().children(recursive=True):
            # An endpoint that was just started has a session of its own, and lives on.
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(child.pid) == session:
                    child.kill()
        os.kill(os.getpid(), signal.SIGKILL)
