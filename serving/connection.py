"""A REST connection that nobody can hold for nothing: what uvicorn leaves unbounded has bounds here.

uvicorn waits for ever for headers to end, and for a client to read its answer; it keeps headers of any
size and any number of pipelined requests; and it closes a connection whose request it has not read to
the end at once, which resets it, so that the client never sees the answer.
"""

from asyncio import Task, TimerHandle, Transport
from collections.abc import Callable
from typing import Any

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_SECONDS = 10.0  # that a connection may be silent, or its headers take
KEEP_ALIVE_SECONDS = 65  # between two requests; longer than the 60 s of common gateways
LINGER_SECONDS = 5.0  # in which the rest of a request, already answered, is read and thrown away
WRITE_SECONDS = 10.0  # that a client may leave an answer unread
HEAD_BYTES = 65_536
HEADERS = 100
PIPELINED = 8
# Bytes read at once: before a request is let in, as a crowd that comes at one moment is read before any is refused;
# and after that.
FIRST_BYTES, MORE_BYTES = 16_384, 262_144


class Room:
    """Keeps the number of connections bounded: who has waited for longest makes room for the next.

    Args:
        most: Connections that may be open.

    Attributes:
        closing: Whether the server stops.
    """

    def __init__(self, most: int) -> None:
        self.closing = False
        self._most = most
        self._open: dict[Connection, None] = {}

    def close(self) -> None:
        """Let every answer from now on tell its client to go elsewhere."""
        self.closing = True
        for each in self._open:
            if each.cycle is not None:
                each.cycle.keep_alive = False

    def enter(self, connection: "Connection") -> None:
        """Take a connection in, and drop the one that waits for longest where there are too many."""
        self._open[connection] = None
        if len(self._open) > self._most:
            next((each for each in self._open if each.waits), connection).drop()

    def stir(self, connection: "Connection") -> None:
        """Note that a connection has begun a request."""
        self._open.pop(connection, None)
        self._open[connection] = None

    def leave(self, connection: "Connection") -> None:
        """Forget a connection that has ended."""
        self._open.pop(connection, None)


class _Door:
    """The transport as an answer sees it; it is not slammed while the request is still on its way."""

    def __init__(self, connection: "Connection") -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.close


class Connection(HttpToolsProtocol):
    """One connection.

    Args:
        room: All of them.
        given: What uvicorn gives.
    """

    def __init__(self, *, room: Room, **given: Any) -> None:
        super().__init__(**given)
        self.access_log = False
        self._room = room
        self._timer: TimerHandle | None = None
        self._stall: TimerHandle | None = None
        self._task: Task[None] | None = None
        self._framing = 0  # bytes that were no body: headers, chunk sizes, trailers
        self._body = 0
        self._deaf = False
        self._declining = False

    @property
    def waits(self) -> bool:
        """Whether the server waits for the client, and not the client for the server."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def drop(self) -> None:
        """End it at once."""
        self.transport.abort()

    def close(self) -> None:
        """End it once the client has been heard out, as a reset could take the answer from its hands."""
        if self.cycle is None or not self.cycle.more_body:
            self.transport.close()
        else:
            self._linger()

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._read_at_once(FIRST_BYTES)
        self._wait(HEAD_SECONDS, self._give_up)
        self._room.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._room.leave(self)
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        if self._task is not None and not self.cycle.response_complete:
            self._task.cancel()  # nobody waits for the answer

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        before = self._body
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._decline(data[upgrade.args[0] :])
        except HttpParserError:
            self.send_400_response("")
        # Each byte of the body pays for one of framing, so that only what is nothing but framing adds up.
        self._framing = max(0, self._framing + len(data) - 2 * (self._body - before))
        if self._framing > HEAD_BYTES and not self._deaf:
            self._refuse(431, f"the request has more than {HEAD_BYTES} bytes of headers; send fewer", "too_large")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(WRITE_SECONDS, self.drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def send_400_response(self, msg: str) -> None:
        if not self._deaf:
            self._refuse(400, f"this is no HTTP/1.1 request, or has more than {HEADERS} headers", "bad_request")

    def on_message_begin(self) -> None:
        if self._declining:
            return
        super().on_message_begin()
        self._wait(HEAD_SECONDS, self._give_up)
        self._room.stir(self)

    def on_url(self, url: bytes) -> None:
        if not self._declining:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._declining:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._declining:
            return
        if self.transport.is_closing() or self._deaf:
            return
        if len(self.headers) > HEADERS or len(self.pipeline) >= PIPELINED:
            raise ValueError  # which the parser turns into a 400
        self._stop_timer()
        super().on_headers_complete()
        self.cycle.transport = _Door(self)  # type: ignore[assignment]
        self._read_at_once(MORE_BYTES)
        if self._room.closing:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        if self.cycle is not None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._framing = 0
        if self._declining:
            self.cycle.more_body = False
            return
        if self.cycle is None:
            return
        self._read_at_once(FIRST_BYTES)
        super().on_message_complete()
        if self.cycle.response_complete:
            self.cycle.more_body = False
            self._wait(KEEP_ALIVE_SECONDS, self.transport.close)

    def on_response_complete(self) -> None:
        if self._deaf:
            return
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._wait(LINGER_SECONDS, self.drop)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._task = self.loop.create_task(cycle.run_asgi(app))
        self._task.add_done_callback(self.tasks.discard)
        self.tasks.add(self._task)

    def _read_at_once(self, size: int) -> None:
        # asyncio's own transports read as much as this says; others, such as TLS, have buffers of their own.
        if hasattr(self.transport, "max_size"):
            self.transport.max_size = size

    def _decline(self, rest: bytes) -> None:
        """Go on in HTTP/1.1 where the client would rather speak something else, as Java's clients do by default.

        The parser takes what follows such headers for the other protocol, even the request's own body. So a new one
        is told of the body alone.
        """
        if self._deaf or self.transport.is_closing():
            return
        framing = [each for each in self.headers if each[0] in (b"content-length", b"transfer-encoding")]
        self.parser, self.cycle.more_body = HttpRequestParser(self), True
        self._declining = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%s\r\n" % b"".join(b"%s: %s\r\n" % each for each in framing))
        self._declining = False
        if rest:
            self.data_received(rest)

    def _give_up(self) -> None:
        if self._framing:
            self._refuse(408, f"the headers did not end within {HEAD_SECONDS:g} s; send them again", "too_slow")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str, reason: str) -> None:
        """Answer what never became a request, and end the connection."""
        running = self.cycle is not None and not self.cycle.response_complete
        if self.pipeline or (running and self.cycle.response_started):
            self.drop()
            return
        if running:
            self.cycle.disconnected = True  # so that nothing more is written for it
            self.cycle.message_event.set()
        text = msgspec.json.encode({"error": message, "reason": reason})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
        self.transport.write(STATUS_LINE[status] + head + text)
        self._linger()

    def _linger(self) -> None:
        """Say that no more comes, and throw away what the client still sends, for a while."""
        self._deaf = True
        self.flow.resume_reading()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self._wait(LINGER_SECONDS, self.drop)

    def _wait(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
