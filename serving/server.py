"""The endpoint's process: KServe's model server over models that a folder asks for."""

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from kserve import ModelServer
from kserve.protocol.dataplane import DataPlane

from components.settings import ServingSettings
from serving.bodies import Bodies
from serving.connection import Room
from serving.credentials import Credentials
from serving.grpc_server import Grpc
from serving.metrics import Metrics
from serving.model import Repository, ServedCulture, ServedModel
from serving.observer import Observer
from serving.pictures import Limits
from serving.rest import Rest
from serving.rollout import Address, Rollout
from serving.workers import Workers

GRACE_SECONDS = 30

log = logging.getLogger("mscflow.server")


class _DataPlane(DataPlane):
    """KServe's data plane, telling the truth about names, versions and readiness."""

    def __init__(self, repository: Repository) -> None:
        super().__init__(model_registry=repository)
        self._server_name = "mscflow"

    def metadata(self) -> dict[str, Any]:
        return {**super().metadata(), "extensions": ["binary_tensor_data"]}

    async def model_metadata(self, model_name: str) -> dict[str, Any]:
        described = await super().model_metadata(model_name)
        model = self.model_registry.get_model(model_name)
        versions = [model.require().version] if model.answers else []
        return {**described, "platform": "onnxruntime_onnx", "versions": versions}


class EndpointServer(ModelServer):
    """Serves REST and gRPC until it is told to stop, then finishes what is in flight.

    Args:
        folder: The endpoint's folder, with ``desired.json``.
        settings: Addresses and limits.
        credentials: What clients must show.
        listener: Socket bound for REST.
    """

    def __init__(
        self, folder: Path, settings: ServingSettings, credentials: Credentials, listener: socket.socket
    ) -> None:
        repository = Repository()
        super().__init__(registered_models=repository, workers=1, enable_latency_logging=False)
        self._folder = folder
        limits = Limits(settings.max_image_bytes, settings.max_pixels, settings.max_images)
        self._limits = limits
        self._settings = settings
        self._workers = Workers(settings.threads, settings.queue)
        repository.culture = ServedCulture(repository, self._workers, limits)
        self.dataplane = _DataPlane(repository)
        most = limits.body_bytes
        bodies = Bodies(most, max(most, settings.body_memory), settings.min_rate)
        room, grace = Room(settings.max_connections), GRACE_SECONDS
        self._observer = Observer.of(settings, Metrics(repository, self._workers, settings.threads))
        guards = (credentials, self._observer)
        self._rest = Rest(self.dataplane, repository, self._workers, bodies, room, *guards, listener, grace)
        self._grpc = Grpc(self.dataplane, repository, self._workers, most, *guards, grace)

    def start(self, models: Sequence[ServedModel] = ()) -> None:
        """Serve until SIGTERM or SIGINT; the folder says which models, so none are given.

        Raises:
            EndpointUnavailable: if the gRPC port is taken.
        """
        uvloop.run(self._run())

    async def _run(self) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        grpc_port = await self._grpc.listen(self._settings.host, self._settings.grpc_port)
        rollout = self._rollout(
            Address(self._settings.host, self._rest.port, grpc_port, self._settings.tls_certificate is not None)
        )
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(work) for work in (self._rest.start(), rollout.run(), stopping.wait())
        ]
        log.info("listening on %s, REST %s, gRPC %s", self._settings.host, self._rest.port, grpc_port)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.registered_models.draining = True
            rollout.report()
            log.info("stopping")
            await self._drain(*tasks)
            log.info("stopped")

    def _rollout(self, address: Address) -> Rollout:
        def make_model(name: str) -> ServedModel:
            return ServedModel(name, self._workers, self._limits)

        threads = self._settings.inference_threads
        metrics = self._observer.metrics
        return Rollout(self._folder, address, self.registered_models, make_model, threads, metrics)

    async def _drain(self, rest: "asyncio.Task[Any]", *others: "asyncio.Task[Any]") -> None:
        """Take no more requests, answer those that were taken, and end.

        Raises:
            Exception: what ended one of the tasks, if it was not the signal.
        """
        await self._rest.see_off(self._settings.drain)
        self._rest.stop()
        await asyncio.gather(rest, self._grpc.stop(notice=self._settings.drain / 2))
        self._workers.close()
        self._observer.close()
        for task in others:
            task.cancel()
        for outcome in await asyncio.gather(*others, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
