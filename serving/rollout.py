"""Bringing the models that ``desired.json`` asks for into service, one beside the other."""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from components.endpoint.files import (
    DESIRED_FILE,
    Desired,
    ModelStatus,
    State,
    Status,
    WantedModel,
    read_desired,
    write_status,
)
from components.errors import DeploymentError, StorageError
from serving.loaded import LoadedModel, ModelRejected
from serving.loading import load_model
from serving.metrics import Metrics
from serving.model import Repository, ServedModel
from serving.trial import try_out

POLL_SECONDS = 0.25
Signature = tuple[int, int, int] | None

log = logging.getLogger("mscflow.rollout")


@dataclass(frozen=True)
class Address:
    """Where the server listens."""

    host: str
    port: int
    grpc_port: int
    tls: bool


class Rollout:
    """Watches ``desired.json``, swaps models, and keeps ``status.json`` true.

    Args:
        folder: The endpoint's folder.
        address: Where the server listens; for ``status.json``.
        repository: The models that answer.
        make_model: Gives a model of a name, with no version loaded yet.
        threads: Threads of one inference.
        metrics: Counts the versions that take over, and those that cannot.
    """

    def __init__(
        self,
        folder: Path,
        address: Address,
        repository: Repository,
        make_model: Callable[[str], ServedModel],
        threads: int,
        metrics: Metrics,
    ) -> None:
        self._folder = folder
        self._address = address
        self._repository = repository
        self._make_model = make_model
        self._threads = threads
        self._metrics = metrics
        # Loading has a thread of its own, so that predictions do not wait for it.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        # Digests, which fix every byte, of what has served: a rollback need not wait for another trial.
        self._proven: set[str] = set()
        self._signature: Signature = (0, 0, 0)
        self._settled = ""
        self._states: dict[str, ModelStatus] = {}

    async def run(self) -> None:
        """Follow ``desired.json`` until cancelled."""
        while True:
            signature = _signature(self._folder / DESIRED_FILE)
            if signature != self._signature:
                await self._apply()
                self._signature = signature
            await asyncio.sleep(POLL_SECONDS)

    def report(self) -> None:
        """Write ``status.json``."""
        why = self._repository.why_not_ready()
        status = Status(
            pid=os.getpid(),
            host=self._address.host,
            port=self._address.port,
            grpc_port=self._address.grpc_port,
            ready=why is None,
            generation=self._settled,
            models=dict(self._states),
            problem=self._repository.problem,
            tls=self._address.tls,
        )
        try:
            write_status(self._folder, status)
        except StorageError as error:
            # A full disk must not stop an endpoint that serves.
            log.error("%s", error)

    async def _apply(self) -> None:
        try:
            desired = read_desired(self._folder)
        except DeploymentError as error:
            self._repository.problem = str(error)
            log.error("%s", error)
            self.report()
            return
        self._repository.problem = None
        self._drop_unwanted(desired)
        for name, wanted in desired.models.items():
            if name not in self._repository.models:
                self._repository.update(self._make_model(name))
            await self._bring(self._repository.models[name], wanted)
        self._settled = desired.generation
        self.report()

    def _drop_unwanted(self, desired: Desired) -> None:
        for name in set(self._repository.models) - set(desired.models):
            del self._repository.models[name]
            self._states.pop(name, None)
            log.info("%s is served no more", name)

    async def _bring(self, model: ServedModel, wanted: WantedModel) -> None:
        """Load the wanted version beside the running one; switch if it holds."""
        current = model.current
        if current is None or (current.version, current.digest) != (wanted.version, wanted.digest):
            self._note(model, "loading", wanted)
            self.report()
            loop = asyncio.get_running_loop()
            try:
                loaded = await loop.run_in_executor(self._loader, self._load, model.name, wanted)
            except ModelRejected as error:
                self._fail(model, wanted, str(error))
                return
            except Exception as error:
                # Whatever a new model does wrong must leave what serves in service.
                log.exception("loading %s %s", model.name, wanted.version)
                self._fail(model, wanted, f"{type(error).__name__}: {error}")
                return
            model.current = loaded
            self._metrics.swaps.labels(model.name).inc()
            log.info("%s %s serves (%s)", model.name, wanted.version, wanted.digest[:12])
        model.problem = None
        self._note(model, "ready", wanted)

    def _load(self, name: str, wanted: WantedModel) -> LoadedModel:
        if wanted.digest not in self._proven:
            try_out(name, wanted, self._threads)
        loaded = load_model(name, wanted, self._threads)
        self._proven.add(loaded.digest)
        return loaded

    def _fail(self, model: ServedModel, wanted: WantedModel, reason: str) -> None:
        model.problem = reason
        self._metrics.load_failures.labels(model.name).inc()
        self._note(model, "failed", wanted)
        log.error("%s %s does not serve: %s", model.name, wanted.version, reason)

    def _note(self, model: ServedModel, state: State, wanted: WantedModel) -> None:
        current = model.current
        self._states[model.name] = ModelStatus(
            state=state,
            wanted=wanted,
            version=current.version if current else None,
            digest=current.digest if current else None,
            reason=model.problem if state == "failed" else None,
        )


def _signature(path: Path) -> Signature:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
