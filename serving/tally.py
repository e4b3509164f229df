"""Counting what happens too often for a line of the log each."""

import asyncio
import logging

SECONDS = 1.0

log = logging.getLogger("mscflow.request")


class Tally:
    """Counts requests that were refused for want of a place: a line each would cost more than refusing them.

    Args:
        protocol: By which they came.
    """

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._count = 0

    def add(self) -> None:
        """Count one; the sum is logged once a second while there are any."""
        self._count += 1
        if self._count == 1:
            asyncio.get_running_loop().call_later(SECONDS, self._log)

    def _log(self) -> None:
        fields = {"protocol": self._protocol, "requests": self._count, "reason": "overloaded"}
        log.warning("refused: there was no place for them", extra={"fields": fields})
        self._count = 0
