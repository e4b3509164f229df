"""The REST server: KServe's, with routes that read requests strictly and open nothing that is not asked for.

Of KServe's own routes those stay that only tell about health and models. Its inference routes answer
500 to bad input and read bodies of any size; its routes that load and unload models ask for no
password. The former are replaced here, the latter left out.
"""

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response
from kserve.errors import InvalidInput
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.server import RESTServer
from kserve.protocol.rest.v2_endpoints import V2Endpoints
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving import openapi
from serving.answers import encode_v1, encode_v2
from serving.bodies import Bodies
from serving.connection import KEEP_ALIVE_SECONDS, Connection, Room
from serving.credentials import Credentials
from serving.gate import Gate
from serving.model import Answer, Repository
from serving.observer import Observer
from serving.protocol import V1Body, V2Body
from serving.refusals import NotReady, Refusal, Stopping
from serving.rest_errors import on_error
from serving.workers import Workers

BACKLOG = 2048
HANDSHAKE_SECONDS = 10.0
JSON_LENGTH_HEADER = "inference-header-content-length"
JSON = "application/json"


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to the server that runs REST and gRPC together, and waits for no TLS for ever."""

    def __init__(self, config: uvicorn.Config, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._tls = tls

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        protocol: Any = self.config.http_protocol_class
        make = functools.partial(protocol, config=self.config, server_state=self.server_state, app_state={})
        limit = HANDSHAKE_SECONDS if self._tls else None
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(make, sock=each, ssl=self._tls, ssl_handshake_timeout=limit, backlog=BACKLOG)
            for each in sockets or ()
        ]
        self.started = True


class Rest(RESTServer):
    """The REST half of the endpoint.

    Args:
        dataplane: KServe's way from a request to a model.
        repository: The models.
        workers: Give places to requests.
        bodies: Bound what requests bring.
        room: Bounds the connections.
        credentials: What clients must show.
        observer: Watches the requests.
        listener: Bound socket.
        grace: Seconds that requests in flight may take when the server stops.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        repository: Repository,
        workers: Workers,
        bodies: Bodies,
        room: Room,
        credentials: Credentials,
        observer: Observer,
        listener: socket.socket,
        grace: int,
    ) -> None:
        self._app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        gate = Gate(self._app, workers, credentials.tokens, observer)
        super().__init__(gate, dataplane, None, http_port=listener.getsockname()[1], grace_period=grace)
        self.port: int = listener.getsockname()[1]
        config = uvicorn.Config(
            gate,
            http=functools.partial(Connection, room=room),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=grace,
        )
        self._server = _Server(config, credentials.tls.context() if credentials.tls else None)
        self._listener = listener
        self._repository = repository
        self._workers = workers
        self._bodies = bodies
        self._observer = observer
        self._room = room

    async def start(self) -> None:
        """Serve until ``stop``, then until the requests in flight are answered."""
        self.create_application()
        await self._server.serve(sockets=[self._listener])

    async def see_off(self, seconds: float) -> None:
        """Answer for a while yet, and tell each client to go elsewhere.

        A connection that is closed while its client sends the next request would fail that request.
        """
        self._room.close()
        await asyncio.sleep(seconds)

    def stop(self) -> None:
        """Accept no new connection and finish what is in flight."""
        self._server.should_exit = True

    def create_application(self) -> None:
        """Register the routes and the answers to errors."""
        app, v2 = self._app, V2Endpoints(self.dataplane)
        # Starlette's own routes, and the first: what FastAPI would do around each prediction is not needed.
        app.router.add_route("/v1/models/{model_name}:predict", self.predict_v1, methods=["POST"])
        app.router.add_route("/v2/models/{model_name}/infer", self.predict_v2, methods=["POST"])
        app.add_api_route("/", self.dataplane.live, methods=["GET"])
        app.add_api_route("/metrics", self.metrics, methods=["GET"], response_model=None)
        app.add_api_route("/openapi.json", openapi.answer, methods=["GET"], response_model=None)
        app.add_api_route("/v1/models", v2.models, methods=["GET"])
        app.add_api_route("/v1/models/{model_name}", self.describe, methods=["GET"], response_model=None)
        app.add_api_route("/v2", v2.metadata, methods=["GET"])
        app.add_api_route("/v2/health/live", v2.live, methods=["GET"])
        app.add_api_route("/v2/health/ready", self.ready, methods=["GET"])
        app.add_api_route("/v2/models", v2.models, methods=["GET"])
        app.add_api_route("/v2/models/{model_name}", self.metadata, methods=["GET"])
        app.add_api_route("/v2/models/{model_name}/ready", self.model_ready, methods=["GET"])
        for kind in (Refusal, InvalidInput, HTTPException, Exception):
            app.add_exception_handler(kind, on_error)

    async def metrics(self, request: Request) -> Response:
        """The endpoint's figures, for Prometheus."""
        content, media_type = self._observer.metrics.publish(request.headers.get("accept", ""))
        return Response(content, media_type=media_type)

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

    async def predict_v1(self, request: Request) -> Response:
        """Answer a v1 request."""
        model_name: str = request.path_params["model_name"]

        async def handle(body: bytes) -> tuple[Answer, Response]:
            answer = await self._infer(model_name, V1Body(body))
            return answer, Response(encode_v1(answer.predictions), media_type=JSON)

        return await self._answer(request, model_name, handle)

    async def predict_v2(self, request: Request) -> Response:
        """Answer a v2 request."""
        model_name: str = request.path_params["model_name"]

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
        """Read and handle one request, and have it watched."""
        with self._observer.watch_rest(request, name) as watch:
            self._repository.require(name).require()
            try:
                with self._bodies.receive(request.headers.get("content-length", "")) as body:
                    with self._workers.expect():
                        content = await body.read(_chunks(request))
                    watch.received(len(content))
                    answer, response = await handle(content)
            except asyncio.CancelledError as error:
                # Its connection, which has ended, cancels a request; so does a server that stops, after its grace.
                if self._room.closing:
                    raise Stopping("the endpoint stopped before the answer; ask again", "stopping") from error
                raise Refusal("the client left before the answer", "disconnected") from error
            watch.answered(answer)
        response.headers["x-request-id"] = watch.request_id
        return response


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect as error:
        raise Refusal("the client left before its body was read", reason="disconnected") from error
