"""A server on loopback that keeps what Kubeflow Pipelines keeps, and speaks as its OpenAPI description says.

It runs nothing: a test says what becomes of a run. What a client asks and what is answered is held against the
description; ``complaints`` has what does not fit.
"""

import json
import socket
import ssl
import struct
import threading
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.certificates import Pair

from .description import Operation, complaints, operations
from .keeping import Json, Keeping, Refusal

PREFIX = "/pipeline"


class Kubeflow(Keeping):
    """The server; used as a context manager.

    Attributes:
        faults: By operation, what befalls its next requests: a status, ``cut`` (before it is done) or ``lost`` (the
            answer, after it is done).
        asked: Every operation, in order.
        complaints: What did not fit the description.
        token, cookie: That requests must bring, where they are set.
        tls: Certificate and key, where it speaks TLS.
    """

    def __init__(self, tls: Pair | None = None) -> None:
        super().__init__()
        self.faults: dict[str, list[int | str]] = {}
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.token = self.cookie = ""
        self._tls = tls
        self._lock = threading.Lock()

    def __enter__(self) -> "Kubeflow":
        kubeflow = self

        class Handler(_Handler):
            server_of = kubeflow

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._tls.certificate, self._tls.key)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._http.server_port}{PREFIX}"

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        """Find the operation that a request is."""
        for operation in operations():
            if (given := operation.match(method, path.removeprefix(PREFIX))) is not None:
                return operation, given
        raise Refusal(404, 5, f"{method} {path} is not in the description")

    def answer(self, operation: Operation, given: Json, query: Json, body: Any) -> Json:
        """Check a request, do what it asks, and check the answer."""
        self._check(operation, query, body)
        with self._lock:
            answer = self.do(operation.name, {**query, **given}, body)
        self.complaints += complaints(operation.answer, answer, f"answer of {operation.name}")
        return answer

    def _check(self, operation: Operation, query: Json, body: Any) -> None:
        found = [f"{operation.name} knows no {key}" for key in query if key not in operation.query]
        if operation.body:
            found += complaints(operation.body, body, operation.name)
        if "filter" in query:
            found += complaints("V2beta1Filter", json.loads(query["filter"]), f"filter of {operation.name}")
        if found:
            self.complaints += found
            raise Refusal(400, 3, "; ".join(found))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: Kubeflow

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer any method."""
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kubeflow = self.server_of
        if not self._knows_who_asks(kubeflow):
            return None
        parts = urlsplit(self.path)
        try:
            operation, given = kubeflow.find(self.command, parts.path)
            kubeflow.asked.append(operation.name)
            fault = (kubeflow.faults.get(operation.name) or [None]).pop(0)
            if fault == "cut":
                return self._hang_up()
            if isinstance(fault, int):
                raise Refusal(fault, 13, f"a fault of {fault}")
            answer = kubeflow.answer(operation, given, dict(parse_qsl(parts.query)), self._body(operation, content))
            if fault == "lost":
                return self._hang_up()
            self._send(200, answer)
        except Refusal as refusal:
            self._send(refusal.status, refusal.body)
        return None

    do_POST = do_DELETE = do_GET  # noqa: N815

    def _knows_who_asks(self, kubeflow: Kubeflow) -> bool:
        if kubeflow.token and self.headers.get("Authorization") != f"Bearer {kubeflow.token}":
            self._send(401, {"code": 16, "message": "Request header error: there is no user identity header."})
            return False
        if kubeflow.cookie and self.headers.get("Cookie") != kubeflow.cookie:
            # As the proxy that most installations have in front of everything.
            self._send(302, {}, {"Location": "https://login.example.org/auth?client_id=kubeflow"})
            return False
        return True

    def _body(self, operation: Operation, content: bytes) -> Any:
        if operation.files:
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            parts = BytesParser().parsebytes(head + content).walk()
            named = {
                part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts
            }
            return {name: named[name] for name in operation.files}
        return json.loads(content) if content else {}

    def _hang_up(self) -> None:
        self.close_connection = True
        # A reset, as of a proxy that died, rather than an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send(self, status: int, body: Json, more: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(more or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
