import base64
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from components.bundle import BUNDLE_FILE, MODEL_FILE, Bundle, file_digest, read_bundle, write_bundle
from components.culture import Modality
from components.endpoint.files import Status, WantedModel, read_status, write_desired
from components.endpoint.prediction import Prediction
from components.imaging import decode
from components.novelty import NOVELTY_FILE, Familiar, describe
from serving.lean import import_kserve

import_kserve()  # as the server does, before a test imports more of it

MODEL = SINGLE = "confluence-single-stack"
MULTI, CELLS = "confluence-multi-stack", "abnormal-cells"


class Endpoint:
    """A real server process, driven as a deployment would drive it."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.process = process
        status = self.wait(lambda found: True)
        self.url = f"http://127.0.0.1:{status.port}"
        self.grpc = f"127.0.0.1:{status.grpc_port}"
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def wait(self, until: Callable[[Status], bool]) -> Status:
        """Wait until the server's own status satisfies a condition."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            status = read_status(self.folder)
            if status is not None and status.pid == self.process.pid and until(status):
                return status
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)
        raise AssertionError(f"{read_status(self.folder)}\n{(self.folder / 'log').read_text()}")

    def deploy(self, **models: WantedModel) -> Status:
        """Ask for models, named with underscores here, and wait until the server has tried them."""
        desired = write_desired(self.folder, {name.replace("_", "-"): wanted for name, wanted in models.items()})
        return self.wait(lambda status: status.generation == desired.generation)

    def predict(self, *images: bytes, model: str = MODEL) -> httpx.Response:
        body = {"instances": [{"image": {"b64": b64(image)}} for image in images]}
        return self.http.post(f"/v1/models/{model}:predict", json=body)

    def stop(self) -> int:
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def running(folder: Path, *options: str, code: str | None = None) -> Iterator[Endpoint]:
    """A server on free ports; ``code`` may start it in a way of its own."""
    start = ["-c", code] if code else ["-m", "serving"]
    given = ["--folder", str(folder), "--port", "0", "--grpc-port", "0", *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *start, *given], stdout=subprocess.PIPE, stderr=log)
    try:
        endpoint = Endpoint(folder, process)
        yield endpoint
        endpoint.stop()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def serve() -> Callable[..., object]:
    """Gives ``running``."""
    return running


@pytest.fixture
def wanted(tmp_path: Path, make_bundle: Callable[..., str]) -> Callable[..., WantedModel]:
    """Writes a tiny bundle and says where it lies."""
    return maker(tmp_path, make_bundle)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory, make_bundle: Callable[..., str]) -> Iterator[Endpoint]:
    """A server with version 1, which calls everything class 2 and is a little unsure."""
    folder = tmp_path_factory.mktemp("endpoint")
    make = maker(folder, make_bundle)
    first = make("1", favour=2)
    write_desired(folder, {MODEL: first})
    with running(folder, "--max-image-bytes", "300000", "--max-pixels", "1000000", "--max-images", "3") as server:
        server.wait(lambda status: status.ready)
        server.first, server.make = first, make
        yield server


@pytest.fixture(scope="module")
def laboratory(
    tmp_path_factory: pytest.TempPathFactory,
    make_bundle: Callable[..., str],
    make_detector: Callable[..., str],
) -> Iterator[Endpoint]:
    """An endpoint with all three models."""
    folder = tmp_path_factory.mktemp("laboratory")
    multi = {"model_name": MULTI, "modality": Modality.MULTI_STACK, "data_version": "a" * 64}
    made = {
        SINGLE: WantedModel(str(folder / "single"), "3", make_bundle(folder / "single", favour=2)),
        MULTI: WantedModel(str(folder / "multi"), "5", make_bundle(folder / "multi", favour=4, **multi)),
        CELLS: WantedModel(str(folder / "cells"), "7", make_detector(folder / "cells")),
    }
    with running(folder) as endpoint:
        endpoint.deploy(**{name.replace("-", "_"): wanted for name, wanted in made.items()})
        yield endpoint


def maker(folder: Path, make_bundle: Callable[..., str]) -> Callable[..., WantedModel]:
    def make(version: str, **options: object) -> WantedModel:
        place = folder / f"bundle-{version}"
        return WantedModel(str(place), version, make_bundle(place, **options))

    return make


def swap_network(given: WantedModel, content: bytes) -> WantedModel:
    """Put another network into a bundle, digests and all, as a faulty exporter might."""
    folder = Path(given.path)
    bundle, _ = read_bundle(folder)
    (folder / MODEL_FILE).write_bytes(content)
    fields = bundle.model_dump() | {"files": {**bundle.files, MODEL_FILE: file_digest(folder / MODEL_FILE)}}
    (folder / BUNDLE_FILE).unlink()
    return WantedModel(given.path, given.version, write_bundle(folder, Bundle.model_validate(fields)))


def add_novelty(folder: Path, images: Sequence[bytes]) -> str:
    """Let a bundle know what images look like, half of them to bound it; gives the model's new digest."""
    bundle, _ = read_bundle(folder)
    seen = np.array([describe(decode(image)) for image in images])
    Familiar.fit(seen[::2], seen[1::2]).write(folder / NOVELTY_FILE)
    files = {**bundle.files, NOVELTY_FILE: file_digest(folder / NOVELTY_FILE)}
    return write_bundle(folder, bundle.model_copy(update={"files": files}))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def prediction() -> Prediction:
    names = ("seeding", "media change", "subculture", "overgrown")
    return Prediction(
        confluence_class=2,
        name=names[1],
        probabilities=dict(zip(names, (0.1, 0.7, 0.1, 0.1), strict=True)),
        confidence=0.7,
        decision=names[1],
        abstain=False,
        reason=None,
        model=MODEL,
        model_version="1",
        data_version="d" * 64,
        digest="e" * 64,
    )
