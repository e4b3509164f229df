"""The server's log: one JSON object a line, short, on standard error or in a file that is rotated.

A flood of refusals neither fills the disk nor pushes everything else out of the files that are kept: of each
reason a burst is written, then one line a second, which says in ``held_back`` how many it stands for.
"""

import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import msgspec

FILE_BYTES = 10_000_000
FILES_KEPT = 3
BURST = 50
LINES_PER_SECOND = 1.0


class Throttle:
    """Lets a burst of lines of each kind through, and then so many a second."""

    def __init__(
        self, burst: int = BURST, rate: float = LINES_PER_SECOND, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._rate = rate
        self._clock = clock
        # Of each kind: lines that may be written now, when that was worked out, and how many were held back.
        self._kinds: dict[str, tuple[float, float, int]] = {}

    def admit(self, kind: str) -> int | None:
        """Ask to write a line.

        Args:
            kind: One of a few words; a client must not be able to make up more.

        Returns:
            How many lines of this kind were held back since the last one; None to hold back this one, too.
        """
        now = self._clock()
        left, before, held = self._kinds.get(kind, (float(self._burst), now, 0))
        left = min(float(self._burst), left + (now - before) * self._rate)
        if left < 1:
            self._kinds[kind] = (left, now, held + 1)
            return None
        self._kinds[kind] = (left - 1, now, 0)
        return held


_refusals = Throttle()


def log_refusal(message: str, fields: dict[str, Any]) -> None:
    """Write a line about a refused request, unless there were too many with its ``reason`` of late."""
    held_back = _refusals.admit(fields["reason"])
    if held_back is not None:
        counted = {"held_back": held_back} if held_back else {}
        logging.getLogger("mscflow.request").warning("refused: %s", message, extra={"fields": fields | counted})


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=str).decode()


class _RotatedFile(RotatingFileHandler):
    """Looks at the file's size alone; its base formats each line twice and asks the disk three times."""

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802 - the base's name
        return self.stream is not None and os.fstat(self.stream.fileno()).st_size >= self.maxBytes


def configure(path: Path | None) -> None:
    """Send all logs of the process to ``path``, or to standard error if None."""
    handler: logging.Handler = logging.StreamHandler()
    if path is not None:
        handler = _RotatedFile(path, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")
    handler.setFormatter(_JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("mscflow").setLevel(logging.INFO)
    # kserve and uvicorn configure loggers of their own where these have no handler.
    for name in ("kserve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.WARNING)
