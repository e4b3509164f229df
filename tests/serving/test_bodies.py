"""How bodies are bounded in size, in time and together; the clock is the event loop's own, turned forward."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from serving.bodies import STALL_SECONDS, Bodies
from serving.refusals import Overloaded, TooLarge, TooSlow


class Loop(asyncio.SelectorEventLoop):
    now = 0.0

    def time(self) -> float:
        return self.now


def run(work: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work())


async def pieces(*given: bytes | float) -> AsyncIterator[bytes]:
    """Bytes, and seconds that pass."""
    for each in given:
        if isinstance(each, float):
            asyncio.get_running_loop().now += each
            for _ in range(3):
                await asyncio.sleep(0)
        else:
            yield each


async def read(bodies: Bodies, *given: bytes | float, declared: str = "") -> bytes:
    with bodies.receive(declared) as body:
        return await body.read(pieces(*given))


def test_a_body_is_given_as_it_came_and_its_memory_given_back() -> None:
    bodies = Bodies(most=10, memory=20, rate=1)

    async def work() -> None:
        with bodies.receive("") as body:
            assert await body.read(pieces(b"ab", b"", b"c")) == b"abc"
            assert bodies.held == 3
        assert bodies.held == 0

    run(work)


@pytest.mark.parametrize(("given", "declared"), [([], "11"), ([], "9" * 5000), ([b"12345", b"678901"], "")])
def test_a_body_that_is_or_will_be_too_large_is_refused(given: list[bytes], declared: str) -> None:
    bodies = Bodies(most=10, memory=20, rate=1)

    async def work() -> None:
        with pytest.raises(TooLarge, match="more than the 10 bytes"):
            await read(bodies, *given, declared=declared)
        assert bodies.held == 0

    run(work)


def test_a_body_may_pause_but_neither_stall_nor_drip() -> None:
    bodies = Bodies(most=1000, memory=2000, rate=10)

    async def work() -> None:
        assert await read(bodies, b"a" * 100, STALL_SECONDS - 2, b"b" * 50, STALL_SECONDS - 2, b"c")
        with pytest.raises(TooSlow, match="more slowly than 10 bytes a second"):
            await read(bodies, b"a" * 900, STALL_SECONDS + 2)  # what came quickly buys no pause
        with pytest.raises(TooSlow):
            await read(bodies, *[b"a", 1.0] * 8)
        assert bodies.held == 0

    run(work)


def test_where_memory_is_full_the_body_that_has_been_arriving_for_longest_gives_way() -> None:
    bodies = Bodies(most=10, memory=20, rate=1)

    async def work() -> None:
        with bodies.receive("") as served:
            await served.read(pieces(b"s" * 8))
            slow = asyncio.create_task(read(bodies, b"a" * 7, *[0.1, b""] * 20))
            await asyncio.sleep(0)
            assert await read(bodies, b"c" * 9) == b"c" * 9  # which the two leave no room for
            with pytest.raises(Overloaded, match="more than it can hold"):
                await slow
            assert bodies.held == 8  # what has arrived waits for its answer and stays
            with bodies.receive("") as other:
                await other.read(pieces(b"d" * 10))
                with pytest.raises(Overloaded):
                    await read(bodies, b"e" * 3)
        assert bodies.held == 0

    run(work)
