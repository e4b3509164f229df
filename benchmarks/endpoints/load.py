"""Clients that each send their next request when the last one is answered, and what they saw.

The load generator shares the machine's cores with the server that it measures, so it does as little as it can:
requests are bytes that were made before, sent over a socket that stays open, and of an answer only the status and
the length are read.
"""

import base64
import itertools
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

HOST = "127.0.0.1"
WARM_UP_SECONDS = 1.0
# A client's share of a health check: one request each so many seconds.
PROBE_SECONDS = 0.02


@dataclass(frozen=True)
class Window:
    """What happened between two moments under load.

    Attributes:
        seconds: Between the two.
        latencies: Seconds of each request that was answered with 200 in between.
        failures: Requests that were answered otherwise.
        server_cpu: Processor seconds of the server, with its children.
        client_cpu: Processor seconds of this process.
    """

    seconds: float
    latencies: list[float]
    failures: int
    server_cpu: float
    client_cpu: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    @property
    def rate_of_cpu(self) -> float:
        """Answers a processor second of the server."""
        return len(self.latencies) / self.server_cpu if self.server_cpu else float("nan")

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the requests was answered."""
        return quantile(self.latencies, share)


@dataclass
class _Seen:
    """What clients saw; lists are appended to by several threads, which Python allows."""

    finished: list[tuple[float, float]] = field(default_factory=list)
    failures: list[float] = field(default_factory=list)


class Connection:
    """One connection to a server on this machine, kept open."""

    def __init__(self, port: int, timeout: float = 120) -> None:
        self._socket = socket.create_connection((HOST, port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and give the answer's status and body."""
        self._socket.sendall(request)
        answer = bytearray()
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._receive()
        head = bytes(answer[:end]).lower()
        if b"transfer-encoding: chunked" in head:
            while not answer.endswith(b"0\r\n\r\n"):
                answer += self._receive()
        else:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            while len(answer) < end + 4 + length:
                answer += self._receive()
        return int(head[9:12]), bytes(answer[end + 4 :])

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part


def post(path: str, body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    """Give the bytes of a POST request."""
    given = {"Host": HOST, "Content-Type": kind, "Content-Length": str(len(body)), **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str) -> bytes:
    """Give the bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def in_json(template: dict[str, object], image: bytes) -> bytes:
    """Give a JSON body that has the image, as base64 text, in the place of ``"IMAGE"``."""
    return json.dumps(template).replace("IMAGE", base64.b64encode(image).decode()).encode()


def quantile(values: list[float], share: float) -> float:
    """The value below which this share of the values lies; the nearest one that occurred."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def measure(
    port: int, requests: list[bytes], clients: int, seconds: float, cpu_of_server: Callable[[], float]
) -> Window:
    """Let clients ask, and watch a window of their time after a short warm-up.

    Args:
        port: Of the server.
        requests: Sent in turn.
        clients: That ask at once.
        seconds: Length of the window.
        cpu_of_server: Gives the processor seconds that the server has used so far.
    """
    with asking(port, requests, clients) as seen:
        time.sleep(min(WARM_UP_SECONDS, seconds))
        began, server, client = time.perf_counter(), cpu_of_server(), _own_cpu()
        time.sleep(seconds)
        ended, server, client = time.perf_counter(), cpu_of_server() - server, _own_cpu() - client
    latencies = [taken for at, taken in seen.finished if began <= at < ended]
    failures = sum(began <= at < ended for at in seen.failures)
    return Window(ended - began, latencies, failures, server, client)


@contextmanager
def asking(port: int, requests: list[bytes], clients: int) -> Iterator[_Seen]:
    """Keep so many requests in flight; on leaving, those in flight are answered first."""
    seen, done, turns = _Seen(), threading.Event(), itertools.count()

    def client() -> None:
        connection = Connection(port)
        while not done.is_set():
            request = requests[next(turns) % len(requests)]
            sent = time.perf_counter()
            status, _ = connection.ask(request)
            now = time.perf_counter()
            if status == 200:
                seen.finished.append((now, now - sent))
            else:
                seen.failures.append(now)
        connection.close()

    with _threads(client, clients, done):
        yield seen


@contextmanager
def probing(port: int, path: str) -> Iterator[list[float]]:
    """Ask for a path again and again beside a load; gives the seconds that each answer took."""
    taken: list[float] = []
    done = threading.Event()

    def probe() -> None:
        connection = Connection(port)
        while not done.wait(PROBE_SECONDS):
            sent = time.perf_counter()
            status, body = connection.ask(get(path))
            assert status == 200, body
            taken.append(time.perf_counter() - sent)
        connection.close()

    with _threads(probe, 1, done):
        yield taken


@contextmanager
def _threads(work: Callable[[], None], count: int, done: threading.Event) -> Iterator[None]:
    """Run threads until the caller is done; what ended one of them early is raised."""
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(work) for _ in range(count)]
        try:
            yield
        finally:
            done.set()
        for each in running:
            each.result()


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
