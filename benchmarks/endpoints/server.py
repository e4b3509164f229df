"""Servers as processes: started, waited for, measured from outside, stopped."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil
from endpoints.load import HOST, Connection, get, in_json, post
from endpoints.models import NAME

from components.bundle import BUNDLE_FILE, file_digest
from components.endpoint.files import WantedModel, write_desired

READY_SECONDS = 90
STOP_SECONDS = 5
# What the endpoint sets for itself (serving/allocator.py), as glibc reads it from the environment. The bare loop and
# the rivals get it too.
SAME_ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}


@dataclass(frozen=True)
class Recipe:
    """How a server is started and asked.

    Attributes:
        name: In the table.
        command: Gives the command line for a port.
        folder: Where it runs, and where its output goes.
        ready: Path that answers 200 as soon as it can answer.
        request: Gives the bytes that ask about an encoded image.
        environment: Variables beside those of this process.
        settings: What it was told, for the report.
    """

    name: str
    command: Callable[[int], list[str]]
    folder: Path
    ready: str
    request: Callable[[bytes], bytes]
    environment: dict[str, str] = field(default_factory=dict)
    settings: str = ""


class Server:
    """A running server.

    Attributes:
        port: Where it listens.
        seconds_to_ready: From the start of its process to its first answer that it is ready.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.port = recipe, free_port()
        recipe.folder.mkdir(parents=True, exist_ok=True)
        self._log = recipe.folder / "log"
        started = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                recipe.command(self.port),
                cwd=recipe.folder,
                env={**os.environ, **recipe.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait(started + READY_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.seconds_to_ready = time.perf_counter() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def alive(self) -> bool:
        """Whether its process still runs."""
        return self._process.poll() is None

    def cpu(self) -> float:
        """Processor seconds that it and its children have used."""
        return sum(each.cpu_times().user + each.cpu_times().system for each in self._family())

    def megabytes(self) -> float:
        """Memory of it and its children, where shared pages count once (PSS)."""
        return sum(each.memory_full_info().pss for each in self._family()) / 1e6

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Ask once, over a connection of its own."""
        connection = Connection(self.port)
        try:
            return connection.ask(request)
        finally:
            connection.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep it from running, so that it takes nothing from another that is measured."""
        family = self._family()
        for each in family:
            each.suspend()
        try:
            yield
        finally:
            for each in reversed(family):
                each.resume()

    def stop(self) -> None:
        """Tell it to end, and make sure that nothing of it is left."""
        family = self._family()
        if family:
            family[0].terminate()
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for each in alive:
            each.kill()
        self._process.wait(STOP_SECONDS)

    def _family(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _wait(self, deadline: float) -> None:
        while time.perf_counter() < deadline and self._process.poll() is None:
            try:
                if self.ask(get(self.recipe.ready))[0] == 200:
                    return
            except (OSError, IndexError):
                pass
            time.sleep(0.01)
        raise SystemExit(f"{self.recipe.name} does not get ready:\n{self._log.read_text()[-2000:]}")


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def endpoint(bundle: Path, folder: Path, *options: str) -> Recipe:
    """The project's own endpoint on a bundle; a request is JSON of the v1 protocol."""
    folder.mkdir(parents=True, exist_ok=True)
    write_desired(folder, {NAME: WantedModel(str(bundle), "1", file_digest(bundle / BUNDLE_FILE))})

    def command(port: int) -> list[str]:
        ports = ["--port", str(port), "--grpc-port", str(free_port())]
        return [sys.executable, "-m", "serving", "--folder", str(folder), *ports, *options]

    def request(image: bytes) -> bytes:
        body = in_json({"instances": [{"image": {"b64": "IMAGE"}}]}, image)
        return post(f"/v1/models/{NAME}:predict", body)

    return Recipe("mscflow", command, folder, "/v2/health/ready", request, settings=" ".join(options) or "defaults")
