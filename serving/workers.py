"""The threads that decode and infer, and the bound on how many requests may wait for them."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from serving.refusals import Overloaded

T = TypeVar("T")


class Workers:
    """A bounded executor: the event loop stays free, and more work than fits is refused at once.

    Args:
        threads: Requests that are worked on at once.
        queue: Requests that may wait beside them.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self._capacity = threads + queue
        self._admitted = 0

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place for one request, from before its body is read until it is answered.

        Raises:
            Overloaded: if no place is free.
        """
        if self._admitted >= self._capacity:
            message = f"the endpoint already holds {self._admitted} requests; try again in a moment"
            raise Overloaded(message, reason="overloaded")
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread while the event loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Let the work at hand finish and end the threads."""
        self._executor.shutdown()
