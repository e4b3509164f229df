"""The threads that decode and infer, and the bound on how many requests may wait for them."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

from serving.refusals import Overloaded

T = TypeVar("T")

# Requests that may be on their way at once, and for how long each counts: a crowd that is let in together is received
# so slowly that nobody of it gets an answer in time, but who drips must not keep others out.
ARRIVING, ARRIVAL_SECONDS = 64, 0.5


class _Job(Generic[T]):
    """Work that can be forgotten, with the request that it holds, while it still stands in the queue."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work: Callable[[], T] | None = work

    def __call__(self) -> T:
        assert self._work is not None  # noqa: S101 - what was forgotten is never run
        return self._work()

    def forget(self) -> None:
        self._work = None


class Workers:
    """A bounded executor: the event loop stays free, and more work than fits is refused at once.

    Args:
        threads: Requests that are worked on at once.
        queue: Requests that may wait beside them.

    Attributes:
        capacity: Requests that may be held, at work or waiting.
        held: Those that are.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="predict")
        self.capacity = threads + queue
        self.held = 0
        self._arriving: set[object] = set()

    def check(self) -> None:
        """Refuse a request for which there would be no place, before anything of it is read.

        Raises:
            Overloaded: if no place is free, or a crowd arrives already.
        """
        self._check()
        if len(self._arriving) >= ARRIVING:
            raise Overloaded(f"{ARRIVING} other requests arrive just now; try again in a moment", reason="overloaded")

    @contextmanager
    def expect(self) -> Iterator[None]:
        """Count a request that was let in, for the moment that it takes to arrive."""
        arrival = object()
        self._arriving.add(arrival)
        timer = asyncio.get_running_loop().call_later(ARRIVAL_SECONDS, self._arriving.discard, arrival)
        try:
            yield
        finally:
            timer.cancel()
            self._arriving.discard(arrival)

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread while the event loop goes on; it holds a place until it is done.

        Who gives up waiting (is cancelled) frees the place at once where the work had not begun.

        Raises:
            Overloaded: if no place is free.
        """
        self._check()
        loop, job = asyncio.get_running_loop(), _Job(work)
        self.held += 1
        future = self._executor.submit(job)
        # The thread may outlive the request, so the place is the work's and not the request's.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free))
        try:
            return await asyncio.wrap_future(future)
        finally:
            if future.cancelled():
                job.forget()

    def close(self) -> None:
        """Let the work at hand finish and end the threads."""
        self._executor.shutdown()

    def _check(self) -> None:
        if self.held >= self.capacity:
            message = f"the endpoint already holds {self.held} requests; try again in a moment"
            raise Overloaded(message, reason="overloaded")

    def _free(self) -> None:
        self.held -= 1
