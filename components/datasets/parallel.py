"""Work on many images at once, with a few of them in hand."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from components.storage import ObjectStore

BATCH = 16  # handing a batch over costs about as much as working on one small image
_REMOTE_THREADS = 24

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def threads_for(*stores: ObjectStore) -> int:
    """Give the threads that pay: one a core for folders; more where each waits for a network."""
    return _REMOTE_THREADS if any(store.remote for store in stores) else min(4, os.cpu_count() or 1)


def batched(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Give items in lists of ``size``, the last of which may be shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def parallel_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int
) -> Generator[_Result, None, None]:
    """Give the results of a function in the order of the items, computed in threads.

    Items are drawn as results are taken, so that memory does not grow with their number. When the
    consumer stops, by an error or an interrupt, what runs is awaited and the rest is never started.
    """
    pool = ThreadPoolExecutor(threads)
    running: deque[Future[_Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
