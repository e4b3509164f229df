"""The REST server: KServe's, with routes that read requests strictly and open nothing that is not asked for.

Of KServe's own routes those stay that only tell about health and models. Its inference routes answer
500 to bad input and read bodies of any size; its routes that load and unload models ask for no
password. The former are replaced here, the latter left out.
"""

import asyncio
import logging
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from kserve.errors import InvalidInput
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.server import RESTServer, metrics_handler
from kserve.protocol.rest.v2_endpoints import V2Endpoints
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import openapi
from serving.model import Answer, Repository
from serving.pictures import Limits
from serving.protocol import V1Body, V2Body, encode_v1, encode_v2
from serving.refusals import NotReady, Refusal, TooLarge, TooSlow
from serving.workers import Workers

BODY_SECONDS = 60
JSON_LENGTH_HEADER = "inference-header-content-length"
JSON = "application/json"

log = logging.getLogger("mscflow.request")


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to the server that runs REST and gRPC together."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class Rest(RESTServer):
    """The REST half of the endpoint.

    Args:
        dataplane: KServe's way from a request to a model.
        repository: The models.
        workers: Admits requests.
        limits: What one request may ask for.
        listener: Bound socket.
        grace: Seconds that requests in flight may take when the server stops.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        repository: Repository,
        workers: Workers,
        limits: Limits,
        listener: socket.socket,
        grace: int,
    ) -> None:
        self._app = FastAPI(title="mscflow endpoint", openapi_url=None, docs_url=None, redoc_url=None)
        super().__init__(self._app, dataplane, None, http_port=listener.getsockname()[1], grace_period=grace)
        self.port: int = listener.getsockname()[1]
        self._server = _Server(self.config)
        self._listener = listener
        self._repository = repository
        self._workers = workers
        self._limits = limits

    async def start(self) -> None:
        """Serve until ``stop``, then until the requests in flight are answered."""
        self.create_application()
        await self._server.serve(sockets=[self._listener])

    def stop(self) -> None:
        """Accept no new connection and finish what is in flight."""
        self._server.should_exit = True

    def create_application(self) -> None:
        """Register the routes and the answers to errors."""
        app, v2 = self._app, V2Endpoints(self.dataplane)
        app.add_api_route("/", self.dataplane.live, methods=["GET"])
        app.add_api_route("/metrics", metrics_handler, methods=["GET"])
        app.add_api_route("/openapi.json", openapi.answer, methods=["GET"], response_model=None)
        app.add_api_route("/v1/models", v2.models, methods=["GET"])
        app.add_api_route("/v1/models/{model_name}", self.describe, methods=["GET"], response_model=None)
        app.add_api_route("/v1/models/{model_name}:predict", self.predict_v1, methods=["POST"], response_model=None)
        app.add_api_route("/v2", v2.metadata, methods=["GET"])
        app.add_api_route("/v2/health/live", v2.live, methods=["GET"])
        app.add_api_route("/v2/health/ready", self.ready, methods=["GET"])
        app.add_api_route("/v2/models", v2.models, methods=["GET"])
        app.add_api_route("/v2/models/{model_name}", self.metadata, methods=["GET"])
        app.add_api_route("/v2/models/{model_name}/ready", self.model_ready, methods=["GET"])
        app.add_api_route("/v2/models/{model_name}/infer", self.predict_v2, methods=["POST"], response_model=None)
        for kind in (Refusal, InvalidInput, HTTPException, Exception):
            app.add_exception_handler(kind, _on_error)

    async def ready(self) -> dict[str, bool]:
        """Whether the endpoint can answer; if not, the error says why."""
        why = self._repository.why_not_ready()
        if why is not None:
            raise NotReady(f"the endpoint is not ready: {why}", reason="not_ready")
        return {"ready": True}

    async def model_ready(self, model_name: str) -> dict[str, Any]:
        """Whether a model can answer; if not, the error says why."""
        self._repository.require(model_name).require()
        return {"name": model_name, "ready": True}

    async def metadata(self, model_name: str) -> dict[str, Any]:
        """The v2 protocol's description of a model."""
        self._repository.require(model_name)
        found: dict[str, Any] = await self.dataplane.model_metadata(model_name)
        return found

    async def describe(self, model_name: str) -> dict[str, Any]:
        """Which version of a model answers."""
        described = self._repository.require(model_name).require().describe()
        return {"name": model_name, "ready": True, **described}

    async def predict_v1(self, request: Request, model_name: str) -> Response:
        """Answer a v1 request."""

        async def handle(body: bytes) -> tuple[Answer, Response]:
            answer = await self._infer(model_name, V1Body(body))
            return answer, Response(encode_v1(answer.predictions), media_type=JSON)

        return await self._answer(request, model_name, handle)

    async def predict_v2(self, request: Request, model_name: str) -> Response:
        """Answer a v2 request."""

        async def handle(body: bytes) -> tuple[Answer, Response]:
            answer = await self._infer(model_name, V2Body(body, request.headers.get(JSON_LENGTH_HEADER)))
            content, json_length = encode_v2(answer.model, answer.version, answer.images, answer.predictions).to_rest()
            if json_length is None:
                return answer, Response(msgspec.json.encode(content), media_type=JSON)
            headers = {JSON_LENGTH_HEADER: str(json_length)}
            return answer, Response(content, headers=headers, media_type="application/octet-stream")

        return await self._answer(request, model_name, handle)

    async def _infer(self, name: str, body: V1Body | V2Body) -> Answer:
        answer: Answer = (await self.dataplane.infer(model_name=name, request=body))[0]
        return answer

    async def _answer(
        self, request: Request, name: str, handle: Callable[[bytes], Awaitable[tuple[Answer, Response]]]
    ) -> Response:
        """Admit, read, handle and log one request."""
        request_id = request.headers.get("x-request-id", "")[:100] or uuid.uuid4().hex
        request.state.request_id = request_id
        started = time.perf_counter()
        self._repository.require(name).require()
        with self._workers.admit():
            answer, response = await handle(await _read_body(request, self._limits.body_bytes))
        response.headers["x-request-id"] = request_id
        log_answer(request_id, request.url.path, answer, started)
        return response


def log_answer(request_id: str, path: str, answer: Answer, started: float) -> None:
    """Write one line about an answered request."""
    fields = {
        "request": request_id,
        "path": path,
        "model": answer.model,
        "version": answer.version,
        "images": len(answer.predictions),
        "abstained": sum(item.abstain for item in answer.predictions),
        "milliseconds": round(1000 * (time.perf_counter() - started), 1),
    }
    log.info("answered", extra={"fields": fields})


async def _read_body(request: Request, most: int) -> bytes:
    """Read a body, and stop as soon as it is too large or takes too long."""
    message = f"the body has more than the {most} bytes that are taken; send smaller or fewer images"
    declared = request.headers.get("content-length", "")
    if len(declared) > 15 or (declared.isdigit() and int(declared) > most):
        raise TooLarge(message, reason="too_large")
    chunks, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise TooLarge(message, reason="too_large")
                chunks.append(chunk)
    except ClientDisconnect as error:
        raise Refusal("the client left before its body was read", reason="disconnected") from error
    except TimeoutError as error:
        raise TooSlow(f"the body did not arrive within {BODY_SECONDS} s; send it again", reason="too_slow") from error
    return b"".join(chunks)


def _error(request: Request, status: int, message: str, reason: str, retry_after: int | None = None) -> JSONResponse:
    headers = {"retry-after": str(retry_after)} if retry_after else {}
    request_id = getattr(request.state, "request_id", None)
    if request_id:
        headers["x-request-id"] = request_id
        fields = {"request": request_id, "path": request.url.path, "status": status, "reason": reason}
        log.warning("refused: %s", message, extra={"fields": fields})
    return JSONResponse({"error": message, "reason": reason}, status_code=status, headers=headers)


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    match error:
        case Refusal():
            return _error(request, error.status, str(error), error.reason, error.retry_after)
        case InvalidInput():
            return _error(request, 400, str(error), "bad_request")
        case HTTPException(status_code=404):
            message = f"there is no path {request.url.path[:200]}; see serving/README.md"
            return _error(request, 404, message, "unknown_path")
        case HTTPException():
            return _error(request, error.status_code, str(error.detail), "bad_request")
    request_id = getattr(request.state, "request_id", "none")
    log.error("request %s failed", request_id, exc_info=error)
    return _error(request, 500, f"the endpoint failed; its log tells more under request {request_id}", "bug")
