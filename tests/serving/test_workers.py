import threading

import pytest

from serving.refusals import Overloaded
from serving.workers import Workers


def test_as_many_requests_are_held_as_threads_and_queue_allow() -> None:
    workers = Workers(threads=1, queue=1)
    with workers.admit(), workers.admit(), pytest.raises(Overloaded, match="already holds 2 requests"), workers.admit():
        pass
    with workers.admit():  # places are given back, after a refusal too
        pass
    workers.close()


async def in_a_thread() -> str:
    workers = Workers(threads=1, queue=1)
    name = await workers.run(lambda: threading.current_thread().name)
    workers.close()
    return name


def test_work_is_done_off_the_event_loop_s_thread() -> None:
    import asyncio

    assert asyncio.run(in_a_thread()).startswith("predict")
