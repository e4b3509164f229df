"""Ending a step whose runner has died: nobody waits for it, and another may already be doing its work again.

A runner that is killed cannot stop its steps. It holds a lock on its events file, which the system lets go of at the
moment of its death, and each step waits for that lock.
"""

import fcntl
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def alive(events: Path) -> Iterator[None]:
    """Say for the time of the block that this process is a runner that lives."""
    with events.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def end_with_runner(events: Path) -> None:
    """End this process and those that it started as soon as its runner dies; nothing happens where there is none."""
    with suppress(OSError):
        file = events.open("rb")
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            threading.Thread(target=_wait, args=(file,), name="lifeline", daemon=True).start()
        else:
            file.close()


def _wait(file: IO[bytes]) -> None:
    import psutil

    with file:
        fcntl.flock(file, fcntl.LOCK_SH)
        session = os.getsid(0)
        for child in psutil.Process().children(recursive=True):
            # An endpoint that was just started has a session of its own, and lives on.
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(child.pid) == session:
                    child.kill()
        os.kill(os.getpid(), signal.SIGKILL)
