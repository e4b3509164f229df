"""What a person is told where no endpoint can be reached, against servers that are none, or ask for more."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.endpoint.client import Client
from components.errors import EndpointUnavailable
from tests.certificates import Authority


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        data = b'{"models": ["m"]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secured(authority: Authority) -> Iterator[Callable[..., int]]:
    """Starts servers that speak TLS; gives their port."""
    servers = []

    def start(address: str = "127.0.0.1", clients: Path | None = None) -> int:
        pair = authority.issue("server", address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(clients)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def stranger() -> Iterator[Callable[[bytes | None], int]]:
    """Starts something that takes a connection and says a few bytes, or nothing for ever; gives its port."""
    ended = threading.Event()
    listeners = []

    def start(words: bytes | None) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def talk() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                if words is None:
                    ended.wait()
                connection.recv(1000)
                connection.sendall(words or b"")
                connection.close()

        threading.Thread(target=talk, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    ended.set()
    for listener in listeners:
        listener.close()


def told(url: str, **given: Any) -> str:
    with Client(url, patience=0.1, **given) as client, pytest.raises(EndpointUnavailable) as caught:
        client.models()
    assert url in str(caught.value)
    assert "_ssl.c" not in str(caught.value)
    return str(caught.value)


def test_an_endpoint_with_a_certificate_of_a_known_authority_is_asked(secured: Any, authority: Authority) -> None:
    with Client(f"https://127.0.0.1:{secured()}", ca=authority.certificate) as client:
        assert client.models() == ["m"]


def test_one_that_asks_for_a_certificate_is_shown_one(secured: Any, authority: Authority) -> None:
    mine = authority.issue("client")
    port = secured(clients=authority.certificate)
    given = {"ca": authority.certificate, "certificate": mine.certificate, "key": mine.key}
    with Client(f"https://127.0.0.1:{port}", **given) as client:
        assert client.models() == ["m"]


def test_an_authority_that_nobody_knows(secured: Any) -> None:
    assert "its certificate is not trusted" in (sentence := told(f"https://127.0.0.1:{secured()}"))
    assert sentence.endswith("give the authority that signed it with --ca")


def test_a_certificate_for_another_name(secured: Any, authority: Authority) -> None:
    sentence = told(f"https://127.0.0.1:{secured('10.1.2.3')}", ca=authority.certificate)
    assert "the certificate is made out to another name" in sentence


def test_no_certificate_where_one_is_asked_for(secured: Any, authority: Authority) -> None:
    sentence = told(f"https://127.0.0.1:{secured(clients=authority.certificate)}", ca=authority.certificate)
    assert "give one with --certificate" in sentence


def test_tls_spoken_to_what_has_none(stranger: Any) -> None:
    port = stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    sentence = told(f"https://127.0.0.1:{port}")
    assert "speaks no TLS; give its address as http://" in sentence


def test_plain_words_to_what_speaks_tls(secured: Any) -> None:
    sentence = told(f"http://127.0.0.1:{secured()}")
    assert "broke the connection" in sentence
    assert sentence.endswith("check the port, or give it as https://")


def test_another_service_at_the_port(stranger: Any) -> None:
    port = stranger(b"SSH-2.0-x\r\n")
    assert "broke the connection (" in told(f"http://127.0.0.1:{port}")


def test_a_silent_one(stranger: Any) -> None:
    assert "took longer than 0.2 s to answer" in told(f"http://127.0.0.1:{stranger(None)}", timeout=0.2)


def test_a_host_that_does_not_exist() -> None:
    assert "no endpoint answers at" in told("http://nowhere.invalid:8080")
