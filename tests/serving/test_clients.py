"""Clients that hang, drip, leave, or never end: each gets its answer or is dropped, and harms nobody else."""

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import repeat
from typing import Any

import grpc
import httpx
import psutil
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from components.endpoint.files import WantedModel, write_desired

MODEL = "confluence-single-stack"
METHOD = "/inference.GRPCInferenceService/ModelInfer"
POST = f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nHost: x\r\n".encode()
# The server with all patience made short.
IMPATIENT = """
import sys
from serving import bodies, connection, grpc_gate
connection.HEAD_SECONDS = connection.LINGER_SECONDS = connection.WRITE_SECONDS = bodies.STALL_SECONDS = 1.0
grpc_gate.MESSAGE_SECONDS = 3.0
from serving.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, serve: Any, make_bundle: Callable[..., str]) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("endpoint")
    write_desired(folder, {MODEL: WantedModel(str(folder / "bundle"), "1", make_bundle(folder / "bundle"))})
    with serve(folder, "--max-image-bytes", "3000000", "--max-connections", "600", code=IMPATIENT) as server:
        server.wait(lambda status: status.ready)
        yield server


def connect(endpoint: Any) -> socket.socket:
    host, port = endpoint.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def converse(endpoint: Any, pieces: Iterator[bytes], pause: float) -> tuple[int, dict[str, Any]]:
    """Send until the server has enough of it; give the status and body of its answer, or 0 and nothing."""
    with connect(endpoint) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
                if pause:
                    time.sleep(pause)
        except OSError:
            pass
        heard = b""
        try:
            while more := connection.recv(65536):
                heard += more
        except OSError:
            pass
    head, _, body = heard.partition(b"\r\n\r\n")
    return (int(head.split()[1]), json.loads(body)) if head else (0, {})


def after(start: bytes, *more: bytes) -> Iterator[bytes]:
    """A beginning, then the same for ever, if there is anything."""
    yield start
    for piece in more:
        yield from repeat(piece)


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LONG = POST + b"Content-Length: 1000000\r\n\r\n"
MISDEEDS = {
    "says nothing": (after(b""), 0, 0, ""),
    "stops within the headers": (after(POST + b"X: "), 0, 408, "headers did not end within 1 s"),
    "drips headers": (after(POST, b"X: y\r\n"), 0.1, 408, "headers did not end within 1 s"),
    "sends headers without an end": (after(POST, b"X" * 100 + b": y\r\n"), 0, 431, "more than 65536 bytes of headers"),
    "sends one header without an end": (after(POST + b"X: ", b"y" * 1000), 0, 431, "more than 65536 bytes of headers"),
    "sends many headers": (after(POST + b"X: y\r\n" * 100 + b"\r\n"), 0, 400, "more than 100 headers"),
    "sends no HTTP": (after(b"\x16\x03\x01\x02\x00\x01\x00"), 0, 400, "no HTTP/1.1 request"),
    "sends a body without an end": (after(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"), 0, 413, "the body has more"),
    "drips a body": (after(LONG, b"x"), 0.05, 408, "more slowly than 32000 bytes a second"),
    "stops within the body": (after(LONG + b"x" * 10_000), 0, 408, "more slowly than 32000 bytes a second"),
    "sends chunks of a byte": (after(CHUNKED, b"1\r\nx\r\n" * 100), 0, 431, "more than 65536 bytes of headers"),
    "sends trailers without an end": (after(CHUNKED + b"0\r\n", b"X: y\r\n" * 100), 0, 431, "bytes of headers"),
    "breaks the chunks": (after(CHUNKED + b"1\r\nxy\r\n"), 0, 400, "no HTTP/1.1 request"),
}


def test_hostile_clients_are_told_or_dropped_and_others_are_answered_meanwhile(
    endpoint: Any, png: Callable[..., bytes]
) -> None:
    with ThreadPoolExecutor(len(MISDEEDS)) as pool:
        found = {name: pool.submit(converse, endpoint, pieces, pause) for name, (pieces, pause, *_) in MISDEEDS.items()}
        answered = 0
        while not all(each.done() for each in found.values()) or not answered:
            assert endpoint.predict(png()).status_code == 200
            assert endpoint.http.get("/v2/health/live").status_code == 200
            answered += 1
    for name, (_, _, status, message) in MISDEEDS.items():
        got, body = found[name].result()
        assert got == status, name
        assert message in body.get("error", ""), name


def test_silent_connections_keep_nobody_out_and_the_oldest_of_too_many_go(
    endpoint: Any, png: Callable[..., bytes]
) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(endpoint)) for _ in range(500)]
        assert endpoint.predict(png()).status_code == 200
        more = [stack.enter_context(connect(endpoint)) for _ in range(200)]
        assert endpoint.predict(png()).status_code == 200
        assert silent[0].recv(1) == b""
        for each in silent + more:  # and the others are not kept for ever
            each.settimeout(10)
            assert each.recv(1) == b""


def test_clients_that_leave_early_leave_nothing_behind(endpoint: Any, png: Callable[..., bytes]) -> None:
    process = psutil.Process(endpoint.process.pid)
    assert endpoint.predict(png()).status_code == 200
    files, before = process.num_fds(), process.memory_info().rss
    for _ in range(20):
        for _ in range(50):
            with connect(endpoint) as connection:
                connection.sendall(LONG + b"x" * 500_000)
        assert endpoint.predict(png()).status_code == 200
        while process.num_fds() > files + 5:
            time.sleep(0.01)
    assert process.memory_info().rss < before + 200_000_000  # of the 500 MB that were sent
    assert "Traceback" not in (endpoint.folder / "log").read_text()


def test_one_who_never_reads_the_answers_is_dropped(endpoint: Any) -> None:
    with connect(endpoint) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.settimeout(1)
        with pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
            for _ in range(10_000):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
                time.sleep(0.002)


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        POST + b"Content-Length: +5\r\n\r\nhello",
        POST + b"Content-Length: -5\r\n\r\nhello",
        POST + b"Content-Length: 5, 5\r\n\r\nhello",
        POST + b"Content-Length : 5\r\n\r\nhello",
        POST + b"Transfer-Encoding: identity, gzip\r\n\r\nhello",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx",
        POST + b"X: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        POST + b"X: a\nContent-Length: 0\r\n\r\n",
        POST + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
        POST.replace(b" HTTP/1.1", b" HTTP/9.9") + b"\r\n",
    ],
)
def test_a_request_that_two_servers_could_read_differently_is_refused(endpoint: Any, request_: bytes) -> None:
    status, body = converse(endpoint, iter([request_]), 0)
    assert (status, body.get("reason")) == (400, "bad_request")


@pytest.mark.parametrize(("count", "answers"), [(8, 8), (20, 0)])
def test_requests_may_queue_up_on_a_connection_but_not_without_a_bound(endpoint: Any, count: int, answers: int) -> None:
    with connect(endpoint) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * count)
        heard = b""
        try:
            while heard.count(b"alive") < count and (more := connection.recv(65536)):
                heard += more
        except OSError:
            pass
    assert heard.count(b'{"status":"alive"}') == answers


@pytest.mark.parametrize("other", ["h2c", "websocket"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("body", [True, False])
def test_one_who_would_rather_speak_another_protocol_is_answered_in_this_one(
    endpoint: Any, png: Callable[..., bytes], other: str, chunked: bool, body: bool
) -> None:
    """As the HTTP client of Java's library does, unless told otherwise."""
    text = json.dumps({"instances": [{"b64": base64.b64encode(png(size=(300, 300))).decode()}]}) if body else ""
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": other, "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABk"}
    content = iter([text[:1000].encode(), text[1000:].encode()]) if chunked and body else text.encode()
    with httpx.Client(base_url=endpoint.url, trust_env=False) as client:
        for _ in range(2):
            response = client.post(f"/v1/models/{MODEL}:predict", content=content, headers=headers)
            assert (response.status_code, response.json().get("reason")) == ((200, None) if body else (400, "empty"))
            content = text.encode()
        assert client.get("/v2/health/live", headers=headers).json() == {"live": True}


def never() -> Iterator[Any]:
    time.sleep(30)
    yield messages.ModelInferRequest()


def test_grpc_calls_that_bring_no_message_keep_nobody_out(endpoint: Any, png: Callable[..., bytes]) -> None:
    request = messages.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="image", datatype="BYTES", shape=[1]).contents.bytes_contents.append(png())
    with ExitStack() as stack:
        channels = [stack.enter_context(grpc.insecure_channel(endpoint.grpc)) for _ in range(3)]
        hanging = [
            channels[index % 2].stream_unary(METHOD, lambda message: message.SerializeToString()).future(never())
            for index in range(50)
        ]
        ask = channels[2].unary_unary(METHOD, lambda message: message.SerializeToString())
        for _ in range(20):
            assert ask(request, timeout=10)
        codes = {each.code() for each in hanging}
    assert codes == {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def test_silent_connections_to_grpc_keep_nobody_out(endpoint: Any) -> None:
    host, port = endpoint.grpc.split(":")
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
        with grpc.insecure_channel(endpoint.grpc) as channel:
            ask = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
            assert messages.ServerReadyResponse.FromString(ask(b"", timeout=10)).ready


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\x01\xff"])
def test_a_grpc_message_that_is_none_is_told_so(endpoint: Any, message: bytes) -> None:
    with grpc.insecure_channel(endpoint.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(METHOD)(message, timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "the message is not what this method takes" in caught.value.details()


def test_a_grpc_call_without_a_message_is_told_so(endpoint: Any) -> None:
    with grpc.insecure_channel(endpoint.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(METHOD)(iter(()), timeout=10)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "without a message" in caught.value.details()
