import asyncio
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serving.refusals import Overloaded
from serving.workers import Workers


@contextmanager
def workers_of(threads: int, queue: int) -> Iterator[Workers]:
    workers = Workers(threads, queue)
    yield workers
    workers.close()


def test_as_many_requests_are_held_as_threads_and_queue_allow() -> None:
    go = threading.Event()

    async def crowd(workers: Workers) -> None:
        held = [asyncio.create_task(workers.run(go.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="already holds 2 requests"):
            workers.check()
        with pytest.raises(Overloaded):
            await workers.run(go.wait)
        go.set()
        assert await asyncio.gather(*held) == [True, True]
        workers.check()

    with workers_of(threads=1, queue=1) as workers:
        asyncio.run(crowd(workers))


def test_work_is_done_off_the_event_loop_s_thread() -> None:
    with workers_of(threads=1, queue=1) as workers:
        name = asyncio.run(workers.run(lambda: threading.current_thread().name))
    assert name.startswith("predict")


def test_work_that_fails_gives_its_place_back() -> None:
    async def fail_twice(workers: Workers) -> None:
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                await workers.run(lambda: 1 / 0)
        await asyncio.sleep(0)
        assert workers.held == 0

    with workers_of(threads=1, queue=1) as workers:
        asyncio.run(fail_twice(workers))


def test_no_crowd_is_let_in_at_once_and_who_drips_does_not_count_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.workers.ARRIVAL_SECONDS", 0.01)
    monkeypatch.setattr("serving.workers.ARRIVING", 2)

    async def arrive(workers: Workers) -> None:
        with workers.expect(), workers.expect():
            with pytest.raises(Overloaded, match="2 other requests arrive just now"):
                workers.check()
            assert await workers.run(lambda: "who is here takes a place")
            await asyncio.sleep(0.05)
            workers.check()
        with workers.expect():
            workers.check()
        workers.check()

    with workers_of(threads=1, queue=1) as workers:
        asyncio.run(arrive(workers))


class Load:
    """What a request holds."""


def test_who_leaves_the_queue_frees_the_place_and_what_the_request_held_but_not_a_thread_at_work() -> None:
    go, done = threading.Event(), []

    async def leave(workers: Workers) -> None:
        load = Load()
        at_work = asyncio.create_task(workers.run(go.wait))
        waiting = asyncio.create_task(workers.run(lambda kept=load: done.append(kept)))
        await asyncio.sleep(0.05)
        found = weakref.ref(load)
        del load
        for task in (waiting, at_work):
            task.cancel()
        await asyncio.gather(at_work, waiting, return_exceptions=True)
        del waiting
        await asyncio.sleep(0)
        assert workers.held == 1
        assert found() is None
        go.set()
        while workers.held:
            await asyncio.sleep(0.01)

    with workers_of(threads=1, queue=1) as workers:
        asyncio.run(leave(workers))
    assert done == []
