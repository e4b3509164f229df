"""Calls to an S3 server that was there and is away, tried again until it is back."""

import time
from typing import Any

from botocore.client import BaseClient
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.exceptions import HTTPClientError

from components.patience import in_a_run, patience

LONGEST_PAUSE = 5.0
_AWAY = frozenset({500, 502, 503, 504})
_SINCE = "mscflow_away_since"


class Waiting:
    """Has a client wait for as long as ``components.patience`` says; else botocore's own three attempts count.

    A wrong address is told soon, as no server ever answered there. Any call may be made twice: what is written under
    a condition may then find that its own first attempt came first.
    """

    def __init__(self, client: BaseClient) -> None:
        self._answered = in_a_run()
        client.meta.events.register_first("needs-retry.s3", self._pause)

    def _pause(
        self,
        attempts: int,
        response: tuple[Any, Any] | None,
        caught_exception: Exception | None,
        request_dict: dict[str, Any],
        **_: object,
    ) -> float | None:
        """Give the seconds to wait before the call is made again; None leaves it to botocore."""
        status = response[0].status_code if response else None
        self._answered |= status is not None and status not in _AWAY
        away = status in _AWAY or isinstance(caught_exception, (BotoConnectionError, HTTPClientError))
        if not away or not self._answered:
            return None
        since = request_dict["context"].setdefault(_SINCE, time.monotonic())
        if time.monotonic() - since > patience():
            return None
        return float(min(0.1 * 2.0**attempts, LONGEST_PAUSE))
