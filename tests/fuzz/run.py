"""Sends malformed requests to an endpoint, and finds those that it does not answer as it should."""

import contextlib
import http.client
import select
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import grpc

from tests.fuzz.cases import Case
from tests.fuzz.frames import FRAMES
from tests.fuzz.judge import Judge, Reply

PATIENCE = 20.0
CUT_PATIENCE = 0.1
LANES = 4


@dataclass(frozen=True)
class Offence:
    """A request that was not answered as it should be."""

    case: Case
    reply: Reply
    problem: str


@dataclass
class Tally:
    """What was sent, and what came of it.

    Attributes:
        counts: By protocol, mutation and status.
    """

    counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    offences: list[Offence] = field(default_factory=list)

    def add(self, case: Case, reply: Reply, problem: str | None) -> None:
        self.counts[case.protocol, case.mutation, str(reply.status)] += 1
        if problem:
            self.offences.append(Offence(case, reply, problem))


class Sender:
    """Sends requests as they are, byte by byte.

    Args:
        url: Of REST, such as ``http://127.0.0.1:8080``.
        address: Of gRPC, such as ``127.0.0.1:8081``.
    """

    def __init__(self, url: str, address: str):
        self._rest, self._grpc = _place(url.removeprefix("http://")), _place(address)
        self._channel = grpc.insecure_channel(
            address, [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
        )

    def close(self) -> None:
        self._channel.close()

    def send(self, case: Case) -> Reply:
        """Give what came back."""
        if case.path is None:
            return self._by_http(case)
        return self._by_frames(case) if case.path == FRAMES else self._by_grpc(case)

    def _by_frames(self, case):
        with socket.create_connection(self._grpc, timeout=PATIENCE) as connection:
            try:
                connection.sendall(case.data)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
            except TimeoutError:
                return Reply("silence", {})
            except OSError:
                pass  # reset, which is an end, too
        return Reply("closed", {})

    def _by_grpc(self, case):
        call = self._channel.unary_unary(case.path, request_serializer=None, response_deserializer=None)
        try:
            return Reply("OK", {}, call(case.data, timeout=PATIENCE))
        except grpc.RpcError as error:
            status = "silence" if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else error.code().name
            return Reply(status, dict(error.trailing_metadata() or ()), (error.details() or "").encode())

    def _by_http(self, case):
        method, path = _request_line(case.data)
        with socket.create_connection(self._rest, timeout=PATIENCE) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(case.data)  # of which a server may have heard enough before its end
            return _reply(connection, case.cut, method, path)


def run(sender: Sender, cases: Iterable[Case]) -> Tally:
    """Send requests, some at once, and judge each answer."""
    judge, tally = Judge(), Tally()
    with ThreadPoolExecutor(LANES) as pool:
        for several in _batched(cases, 64):
            for case, reply in zip(several, pool.map(sender.send, several), strict=True):
                tally.add(case, reply, judge.problem(case, reply))
    return tally


def _place(address):
    host, port = address.split(":")
    return host, int(port)


def _batched(items: Iterable[Case], size: int) -> Iterator[list[Case]]:
    waiting = iter(items)
    while several := list(islice(waiting, size)):
        yield several


def _request_line(data):
    parts = data.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    return (parts[0], parts[1].split("?")[0].split("#")[0]) if len(parts) == 3 else ("", "")


def _reply(connection, cut, method, path):
    if cut and not select.select([connection], [], [], CUT_PATIENCE)[0]:
        connection.shutdown(socket.SHUT_WR)  # the client gives up
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
        body = response.read()
    except TimeoutError:
        return Reply("silence", {}, b"", method, path)
    except (http.client.HTTPException, OSError) as error:
        # A connection that ended, or was reset, before there was an answer on it.
        ended = isinstance(error, OSError | http.client.RemoteDisconnected | http.client.IncompleteRead)
        return Reply("closed" if ended else "no HTTP", {}, repr(error).encode(), method, path)
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, headers, body, method, path)
