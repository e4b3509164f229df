"""The gRPC server: KServe's v2 service, bound to one address, with clear refusals."""

from typing import Any

from grpc import StatusCode, aio, ssl_server_credentials
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as service
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor
from kserve.protocol.grpc.server import GRPCServer
from kserve.protocol.grpc.servicer import InferenceServicer

from components.errors import EndpointUnavailable
from serving.answers import encode_v2
from serving.credentials import Credentials
from serving.grpc_gate import GrpcGate
from serving.model import Answer, Repository
from serving.observer import Observer
from serving.protocol import GrpcBody
from serving.refusals import Refusal, SwitchedOff
from serving.workers import Workers

OPTIONS = {
    # Without this a second server could share the port, and answer half of the requests.
    "grpc.so_reuseport": 0,
    # Who connects and says nothing, or no longer anything, is dropped.
    "grpc.server_handshake_timeout_ms": 10_000,
    "grpc.max_connection_idle_ms": 60_000,
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.max_allowed_incoming_connections": 1000,
    "grpc.max_concurrent_streams": 100,
    "grpc.max_metadata_size": 8192,
    "grpc.absolute_max_metadata_size": 16_384,
}


class _Interceptor(ExceptionToStatusInterceptor):
    async def handle_exception(self, ex: Exception, request_or_iterator: Any, context: Any, method_name: str) -> None:
        if isinstance(ex, Refusal):
            if ex.retry_after is not None:
                context.set_trailing_metadata((("retry-after", str(ex.retry_after)),))
            await context.abort(StatusCode[ex.grpc_code], str(ex))
        await super().handle_exception(ex, request_or_iterator, context, method_name)


class _Servicer(InferenceServicer):
    """KServe's service with a strict ``ModelInfer`` and a closed repository."""

    def __init__(self, dataplane: DataPlane, repository: Repository, observer: Observer) -> None:
        super().__init__(dataplane, None)
        self._repository = repository
        self._observer = observer

    async def ServerReady(self, request: Any, context: Any) -> Any:
        return messages.ServerReadyResponse(ready=self._repository.why_not_ready() is None)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return messages.ModelReadyResponse(ready=self._repository.require(request.name).answers)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        self._repository.require(request.name)
        return await super().ModelMetadata(request, context)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        headers = dict(context.invocation_metadata() or ())
        with self._observer.watch("grpc", request.model_name, "ModelInfer", headers) as watch:
            watch.received(request.ByteSize())
            self._repository.require(request.model_name).require()
            found = await self._data_plane.infer(model_name=request.model_name, request=GrpcBody(request))
            answer: Answer = found[0]
            response = encode_v2(answer.model, answer.version, answer.images, answer.predictions).to_grpc()
            watch.answered(answer)
        return response

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:
        raise SwitchedOff("models are not loaded over the network; deploy them with mscflow", reason="switched_off")

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:
        raise SwitchedOff("models are not unloaded over the network; deploy others with mscflow", "switched_off")


class Grpc(GRPCServer):
    """The gRPC half of the endpoint."""

    def __init__(
        self,
        dataplane: DataPlane,
        repository: Repository,
        workers: Workers,
        most: int,
        credentials: Credentials,
        observer: Observer,
        grace: int,
    ) -> None:
        super().__init__(0, dataplane, None, kwargs={}, grace_period=grace)
        self._repository = repository
        self._observer = observer
        self._gate = GrpcGate(workers, credentials.tokens, observer)
        self._most = most
        self._tls = credentials.tls

    async def listen(self, host: str, port: int) -> int:
        """Start to serve.

        Returns:
            The port, which the system chooses if 0 is given.

        Raises:
            EndpointUnavailable: if the port is taken.
        """
        self._server = aio.server(
            interceptors=(_Interceptor(), self._gate),
            options=[*OPTIONS.items(), ("grpc.max_receive_message_length", self._most)],
        )
        servicer = _Servicer(self._data_plane, self._repository, self._observer)
        service.add_GRPCInferenceServiceServicer_to_server(servicer, self._server)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = self._bind(self._server, address)
        except RuntimeError as error:
            raise EndpointUnavailable(f"port {port} on {host} cannot be used for gRPC; choose another") from error
        await self._server.start()
        return bound

    async def stop(self, sig: int | None = None, notice: float = 0.1) -> None:
        """Take no more calls, and finish those that were taken; see ``GrpcGate.see_off``."""
        await self._gate.see_off(notice, self._grace_period)
        await super().stop(sig)

    def _bind(self, server: aio.Server, address: str) -> int:
        if self._tls is None:
            return int(server.add_insecure_port(address))
        key, certificate, authorities = self._tls.files()
        pair, mutual = [(key, certificate)], authorities is not None
        return int(server.add_secure_port(address, ssl_server_credentials(pair, authorities, mutual)))
