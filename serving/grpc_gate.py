"""What is decided before a gRPC message is read, and for how long it may be on its way.

gRPC reads a message of any length to its end, however slowly it comes. So each call is taken as a stream
of one message, which is asked for only once the call has been let in.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving.credentials import Tokens
from serving.observer import Observer
from serving.refusals import NotReady, Overloaded, Refusal, TooSlow
from serving.tally import Tally
from serving.wire import read_message
from serving.workers import Workers

# Probes bring no token.
OPEN_METHODS = frozenset({"ServerLive", "ServerReady"})
MESSAGE_SECONDS = 60.0
ARRIVING = 32


class GrpcGate(grpc.aio.ServerInterceptor):
    """Lets calls in.

    Args:
        workers: Know whether there is a place.
        tokens: Of which a call must bring one; None asks for none.
        observer: Is told of those that are turned away.
    """

    def __init__(self, workers: Workers, tokens: Tokens | None, observer: Observer) -> None:
        self._workers = workers
        self._observer = observer
        self._tokens = tokens
        self._arriving: dict[asyncio.Timeout, None] = {}
        self._calls = 0
        self._closing = False
        self._tally = Tally("gRPC")

    async def see_off(self, notice: float, grace: float) -> None:
        """Let no more calls in, and wait for those that were.

        gRPC itself cancels what arrives while it stops, and a client cannot tell whether it was answered.

        Args:
            notice: Seconds in which clients that call all the time learn that they should stop.
            grace: Seconds that calls may take to end.
        """
        self._closing = True
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        await asyncio.sleep(notice)
        while self._calls and loop.time() < until:
            await asyncio.sleep(0.01)

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """Wrap the handler of one call."""
        handler = await continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def answer(messages: AsyncIterator[Any], context: Any) -> Any:
            self._calls += 1
            try:
                message = await self._let_in(details.method.rpartition("/")[2], messages, context)
                return await handler.unary_unary(message, context)
            finally:
                self._calls -= 1

        return grpc.stream_unary_rpc_method_handler(
            answer,
            request_deserializer=functools.partial(read_message, handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    async def _let_in(self, method: str, messages: AsyncIterator[Any], context: Any) -> Any:
        try:
            self._check(method, context)
            return await self._read(messages)
        except Refusal as refusal:
            self._observer.turned_away(method, refusal)
            raise

    def _check(self, method: str, context: Any) -> None:
        if self._tokens is not None and method not in OPEN_METHODS:
            found = dict(context.invocation_metadata() or ()).get("authorization", "")
            self._tokens.check(found if isinstance(found, str) else "")
        if method == "ModelInfer":
            if self._closing:
                raise NotReady("the endpoint is stopping; ask another, or again when it is back", reason="not_ready")
            try:
                self._workers.check()
            except Overloaded:
                self._tally.add()
                raise

    async def _read(self, messages: AsyncIterator[Any]) -> Any:
        """Read the one message; where too many arrive, the one that has taken longest gives way."""
        clock = asyncio.timeout(MESSAGE_SECONDS)
        try:
            async with clock:
                self._make_room(clock)
                return await anext(messages)
        except StopAsyncIteration as error:
            raise Refusal("the call ended without a message; send one") from error
        except DecodeError as error:
            raise Refusal(f"the message is not what this method takes ({error}); see KServe's protocol v2") from error
        except TimeoutError as error:
            if clock not in self._arriving:
                raise Overloaded("the endpoint receives more than it can hold; try again", "overloaded") from error
            message = f"the message did not arrive within {MESSAGE_SECONDS:g} s; send it again, or smaller"
            raise TooSlow(message, reason="too_slow") from error
        finally:
            self._arriving.pop(clock, None)

    def _make_room(self, clock: asyncio.Timeout) -> None:
        if len(self._arriving) >= ARRIVING:
            oldest = next(iter(self._arriving))
            del self._arriving[oldest]
            if not oldest.expired():
                oldest.reschedule(asyncio.get_running_loop().time())
        self._arriving[clock] = None
