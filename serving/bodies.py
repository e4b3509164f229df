"""The bodies of requests: how fast each must come, and how much memory all of them may take."""

import asyncio
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager

from serving.refusals import Overloaded, Refusal, TooLarge, TooSlow

# A body may pause for so long, and no longer whatever it brought before.
STALL_SECONDS = 5.0


class Body:
    """One body, from its first byte until its request is answered.

    Attributes:
        size: Bytes that it holds.
    """

    def __init__(self, bodies: "Bodies") -> None:
        self.size = 0
        self._bodies = bodies
        self._clock: asyncio.Timeout | None = None
        self._gave_way = False

    async def read(self, chunks: AsyncIterable[bytes]) -> bytes:
        """Read it to its end.

        Raises:
            TooLarge: if it has more bytes than one may have.
            TooSlow: if it comes more slowly than it must.
            Overloaded: if the memory is full, and it has been arriving for longer than any other.
        """
        parts = []
        try:
            async with asyncio.timeout(STALL_SECONDS) as self._clock:
                async for chunk in chunks:
                    self._take(len(chunk))
                    parts.append(chunk)
        except TimeoutError as error:
            raise self._reason() from error
        finally:
            self._clock = None
            self._bodies.settle(self)
        return b"".join(parts)

    def give_way(self) -> None:
        """Stop to arrive, as others need the memory."""
        self._gave_way = True
        if self._clock is not None and not self._clock.expired():
            self._clock.reschedule(asyncio.get_running_loop().time())

    def _take(self, count: int) -> None:
        if self._gave_way:
            raise self._reason()
        self.size += count
        self._bodies.grow(count)
        if self._gave_way:
            raise self._reason()
        if self.size > self._bodies.most:
            raise self._bodies.too_large()
        clock, now = self._clock, asyncio.get_running_loop().time()
        if clock is not None:
            # What it brings buys it time, of which it cannot save up more than a pause.
            clock.reschedule(min((clock.when() or now) + count / self._bodies.rate, now + STALL_SECONDS))

    def _reason(self) -> Refusal:
        if self._gave_way:
            return Overloaded("the endpoint receives more than it can hold; try again in a moment", "overloaded")
        message = f"the body came more slowly than {self._bodies.rate} bytes a second; send it again, or smaller"
        return TooSlow(message, reason="too_slow")


class Bodies:
    """All bodies in flight.

    When they fill the memory, the one that has been arriving for longest gives way: clients that mean
    it are done in a moment, and those that do not cannot keep the others out.

    Args:
        most: Bytes of one body.
        memory: Bytes of all of them.
        rate: Bytes a second that each must bring.
    """

    def __init__(self, most: int, memory: int, rate: int) -> None:
        self.most = most
        self.rate = rate
        self.held = 0
        self._memory = memory
        self._arriving: dict[Body, None] = {}

    @contextmanager
    def receive(self, declared: str) -> Iterator[Body]:
        """Begin a body; its memory is given back at the end of the block.

        Args:
            declared: The header Content-Length, or nothing.

        Raises:
            TooLarge: if it says that it will be too large.
        """
        if len(declared) > 15 or (declared.isdigit() and int(declared) > self.most):
            raise self.too_large()
        body = Body(self)
        self._arriving[body] = None
        try:
            yield body
        finally:
            self.settle(body)
            self.held -= body.size

    def too_large(self) -> TooLarge:
        """Say that a body is too large."""
        message = f"the body has more than the {self.most} bytes that are taken; send smaller or fewer images"
        return TooLarge(message, reason="too_large")

    def settle(self, body: Body) -> None:
        """Note that a body arrives no more; from now on it is held until its request is answered."""
        self._arriving.pop(body, None)

    def grow(self, count: int) -> None:
        """Make room for more bytes of a body that arrives."""
        self.held += count
        while self.held > self._memory and self._arriving:
            oldest = next(iter(self._arriving))
            self.settle(oldest)
            self.held -= oldest.size
            oldest.size = 0
            oldest.give_way()
