"""More requests than a server can answer: they come at random moments and wait for no answer.

One thread sends them all, as the generator shares the machine's cores with the server. It runs in a process of its
own, so that what is measured beside it is not held up by it.
"""

import multiprocessing
import random
import selectors
import socket
import time
from dataclasses import dataclass
from typing import Any

from endpoints.load import HOST

# Fewer than the endpoint takes; a client beyond them goes unsent and is counted.
MOST_CONNECTIONS = 900
PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Storm:
    """What became of the requests.

    Attributes:
        seconds: Over which they were sent.
        accepted: Seconds that each took that was answered with 200.
        refused: Seconds that each took that was answered with 503.
        others: What else came of requests, by kind.
        late: 99th percentile of the seconds by which the generator itself fell behind.
    """

    seconds: float
    accepted: list[float]
    refused: list[float]
    others: dict[str, int]
    late: float


def storm(port: int, requests: list[bytes], rate: float, seconds: float) -> Storm:
    """Send requests at a rate, at random moments (a Poisson process), and wait for the last answers."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, port, requests, rate, seconds))
    process.start()
    found: Storm = receiver.recv()
    process.join()
    return found


def _send(sender: Any, port: int, requests: list[bytes], rate: float, seconds: float) -> None:
    sender.send(_Generator(port, requests, rate, seconds).run())


class _Client:
    """A connection and the request on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.unsent = memoryview(b"")
        self.heard = b""
        self.sent_at = 0.0

    def write(self) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass

    def read(self) -> int | None:
        """The status, once the answer is there and the request is sent to its end."""
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("closed")
        self.heard += part
        return self.status()

    def status(self) -> int | None:
        head, found, body = self.heard.partition(b"\r\n\r\n")
        if not found or self.unsent:
            return None
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return int(head[9:12]) if len(body) >= length else None


class _Generator:
    def __init__(self, port: int, requests: list[bytes], rate: float, seconds: float) -> None:
        self._port, self._requests, self._rate, self._seconds = port, requests, rate, seconds
        self._selector = selectors.EpollSelector()
        self._idle: list[_Client] = []
        self._busy: set[_Client] = set()
        self._taken: dict[int, list[float]] = {200: [], 503: []}
        self._others: dict[str, int] = {}
        self._late: list[float] = []
        self._random = random.Random(0)  # noqa: S311 - no secret

    def run(self) -> Storm:
        began = due = time.perf_counter()
        count = 0
        while due < began + self._seconds:
            now = time.perf_counter()
            while due <= now and due < began + self._seconds:
                self._late.append(now - due)
                self._start(self._requests[count % len(self._requests)])
                count += 1
                due += self._random.expovariate(self._rate)
                now = time.perf_counter()
            self._handle(max(0.0, due - time.perf_counter()))
        seconds = time.perf_counter() - began
        until = time.perf_counter() + PATIENCE_SECONDS
        while self._busy and time.perf_counter() < until:
            self._handle(0.1)
        self._count("unanswered", len(self._busy))
        late = sorted(self._late)[int(0.99 * len(self._late))]
        return Storm(seconds, self._taken[200], self._taken[503], self._others, late)

    def _start(self, request: bytes) -> None:
        if not self._idle and len(self._busy) >= MOST_CONNECTIONS:
            self._count("unsent")
            return
        try:
            client = self._idle.pop() if self._idle else self._connect()
        except OSError as error:
            self._count(type(error).__name__)
            return
        client.unsent, client.heard, client.sent_at = memoryview(request), b"", time.perf_counter()
        self._busy.add(client)
        self._advance(client, selectors.EVENT_WRITE)

    def _connect(self) -> _Client:
        client = _Client(self._port)
        self._selector.register(client.socket, selectors.EVENT_READ, client)
        return client

    def _handle(self, timeout: float) -> None:
        for key, events in self._selector.select(timeout):
            self._advance(key.data, events)

    def _advance(self, client: _Client, events: int) -> None:
        try:
            was_sending = bool(client.unsent)
            if events & selectors.EVENT_WRITE:
                client.write()
            status = client.read() if events & selectors.EVENT_READ else client.status()
        except OSError as error:
            if client in self._busy:
                self._count(type(error).__name__)
            self._forget(client)
            return
        if status is None:
            if was_sending or client.unsent:
                sending = selectors.EVENT_READ | selectors.EVENT_WRITE
                self._selector.modify(client.socket, sending if client.unsent else selectors.EVENT_READ, client)
            return
        if status in self._taken:
            self._taken[status].append(time.perf_counter() - client.sent_at)
        else:
            self._count(str(status))
        self._selector.modify(client.socket, selectors.EVENT_READ, client)
        self._busy.discard(client)
        self._idle.append(client)

    def _forget(self, client: _Client) -> None:
        self._selector.unregister(client.socket)
        client.socket.close()
        self._busy.discard(client)
        if client in self._idle:
            self._idle.remove(client)

    def _count(self, kind: str, count: int = 1) -> None:
        if count:
            self._others[kind] = self._others.get(kind, 0) + count
