"""Which answers to a malformed request are right: a prediction, or a refusal in one sentence without internals."""

import json
import re
from dataclasses import dataclass

from serving.openapi import REASONS
from tests.fuzz.conformance import Conformance
from tests.fuzz.frames import FRAMES

# What would tell a stranger how the endpoint is built, or where it lies.
INTERNALS = re.compile(
    r"Traceback|\.py\b|site-packages|(?<![\w.])/(?:tmp|home|usr|root|work|opt|var|app)/|\b[A-Z]\w+(?:Error|Exception|Warning)\b"
    r"|<(?:class|_io|built-in|function|module|bound)\b|object at 0x|NoneType|\b_[A-Z]\w+|\bself\b"
    r"|__(?:init|class|dict|call|main|name|file)__"
    r"|\b(?:msgspec|numpy|ndarray|onnxruntime|kserve|starlette|fastapi|uvicorn|httptools|h11|PIL|pydantic|asyncio)\b"
)
LONGEST_SENTENCE = 700
GRPC_CODES = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED"}


@dataclass(frozen=True)
class Reply:
    """What came back.

    Attributes:
        status: Of HTTP, or the name of gRPC's code; "closed" where the connection ended without an answer, and
            "silence" where nothing came in time.
        headers: By lower-case name; of gRPC the trailing metadata.
        body: Of gRPC the status's details.
        method, path: As the request had them, where they could be read.
    """

    status: int | str
    headers: dict[str, str]
    body: bytes = b""
    method: str = ""
    path: str = ""


class Judge:
    """Finds what is wrong with a reply."""

    def __init__(self):
        self._conformance = Conformance()

    def problem(self, case, reply: Reply) -> str | None:
        """Say what is wrong with a reply; None if it is as it should be."""
        if reply.status == "silence":
            return "no answer in time"
        if reply.status == "closed":
            return None if case.cut or case.path == FRAMES else "the connection was closed without an answer"
        if case.path is not None:
            return self._of_grpc(case, reply)
        return self._of_http(case, reply)

    def _of_grpc(self, case, reply):
        if reply.status == "UNAVAILABLE":
            return None if "retry-after" in reply.headers else "UNAVAILABLE without retry-after"
        if reply.status not in GRPC_CODES:
            return f"gRPC code {reply.status}"
        return None if reply.status == "OK" else _sentence_problem(case, reply.body.decode())

    def _of_http(self, case, reply):
        status = reply.status
        if isinstance(status, str):
            return status
        if not (200 <= status < 300 or 400 <= status < 500 or (status == 503 and "retry-after" in reply.headers)):
            return f"status {status}"
        if reply.method == "HEAD":
            return None
        # What is no HTTP never came as far as the operation that the document describes.
        if status < 300 or case.protocol != "http":
            problems = self._conformance.problems(reply.method, reply.path, status, reply.headers, reply.body)
            if problems:
                return f"against the document: {problems[0]}"
        return None if status < 300 else _refusal_problem(case, reply.body)


def _refusal_problem(case, body):
    try:
        said = json.loads(body)
    except ValueError:
        return "a refusal that is no JSON"
    if not isinstance(said, dict) or set(said) != {"error", "reason"}:
        return "a refusal that has not just error and reason"
    if said["reason"] not in REASONS:
        return f"the reason {said['reason']} is not documented"
    return _sentence_problem(case, said["error"])


def _sentence_problem(case, text):
    if not 8 <= len(text) <= LONGEST_SENTENCE:
        return f"a sentence of {len(text)} characters"
    found = INTERNALS.search(text)
    # What the client itself sent, it may be told.
    return f"internals: {found[0]}" if found and found[0].encode() not in case.data else None
