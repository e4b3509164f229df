"""Doing several things at once, with the results in order."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T], at_once: int) -> Iterator[R]:
    """Do work on items in threads, and give the results in the items' order.

    Items are taken only a little ahead of the results, so that any number of them fits into memory. The
    threads are daemons, because whoever presses Ctrl-C does not want to wait for a request in flight.

    Args:
        work: What it raises is raised in the place of its result, and ends the rest.
        items: Taken in the caller's thread.
        at_once: Threads.
    """
    jobs: SimpleQueue[tuple[T, Future[R]] | None] = SimpleQueue()
    for _ in range(at_once):
        threading.Thread(target=_serve, args=(work, jobs), daemon=True, name="in flight").start()
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            future: Future[R] = Future()
            jobs.put((item, future))
            waiting.append(future)
            while len(waiting) >= 2 * at_once or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for _ in range(at_once):
            jobs.put(None)


def _serve(work: Callable[[T], R], jobs: "SimpleQueue[tuple[T, Future[R]] | None]") -> None:
    while (job := jobs.get()) is not None:
        item, future = job
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(work(item))
        except BaseException as error:
            future.set_exception(error)
