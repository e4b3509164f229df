"""A real endpoint to send malformed requests to: all models, and among them every way to prepare an image."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from components.bundle import file_digest, read_any_bundle, write_bundle
from components.culture import ABNORMAL_MODEL, CULTURE_MODEL, Modality
from components.endpoint.files import WantedModel
from components.imaging import Preprocessing, decode
from components.novelty import NOVELTY_FILE, Familiar, describe
from tests.conftest import SIDE, noise_png, write_tiny_bundle, write_tiny_detector
from tests.fuzz.run import Sender
from tests.serving.conftest import Endpoint, running

MODELS = (*(each.model_name for each in Modality), ABNORMAL_MODEL, CULTURE_MODEL)
LIMITS = ("--max-image-bytes", "300000", "--max-pixels", "1000000", "--max-images", "3")
# Its network gives the same answer to every image, so that its known answer does not depend on these.
THOROUGH = Preprocessing(size=SIDE, clumps="masked", equalisation="clahe", planes="texture")


class Held(NamedTuple):
    """What a process holds.

    Attributes:
        memory: Resident, MB.
        files: Open files and connections.
    """

    memory: float
    threads: int
    files: int


class Laboratory:
    """An endpoint with all models, and a sender that knows where it listens."""

    def __init__(self, endpoint: Endpoint):
        self.url, self.grpc = endpoint.url, endpoint.grpc
        self.sender = Sender(endpoint.url, endpoint.grpc)
        self.http = endpoint.http
        self._process = psutil.Process(endpoint.process.pid)

    def answer(self) -> dict:
        """Give the answer to a valid request; it is always the same."""
        instance = {"b64": base64.b64encode(noise_png(5)).decode(), "modality": "single_stack"}
        response = self.http.post("/v1/models/culture:predict", json={"instances": [instance]})
        assert response.status_code == 200, response.text
        return response.json()

    def settled(self) -> Held:
        """Give what the process holds once connections that have ended are gone."""
        found = self._held()
        for _ in range(40):
            time.sleep(0.25)
            found, last = self._held(), found
            if (found.threads, found.files) == (last.threads, last.files):
                break
        return found

    def _held(self) -> Held:
        with self._process.oneshot():
            memory = self._process.memory_info().rss / 1e6
            return Held(memory, self._process.num_threads(), self._process.num_fds())


@contextmanager
def laboratory(folder: Path) -> Iterator[Laboratory]:
    """Start an endpoint with all models; it ends with the block."""
    multi = {"model_name": Modality.MULTI_STACK.model_name, "modality": Modality.MULTI_STACK}
    digests = {
        Modality.SINGLE_STACK.model_name: write_tiny_bundle(folder / "single", favour=2),
        Modality.MULTI_STACK.model_name: write_tiny_bundle(folder / "multi", weight=0, preprocessing=THOROUGH, **multi),
        ABNORMAL_MODEL: write_tiny_detector(folder / "cells"),
    }
    places = dict(zip(digests, ("single", "multi", "cells"), strict=True))
    for name in (Modality.SINGLE_STACK.model_name, ABNORMAL_MODEL):
        digests[name] = _acquaint(folder / places[name])
    wanted = {name: WantedModel(str(folder / places[name]), "1", digest) for name, digest in digests.items()}
    # Whatever is answered is kept for retraining, too, so that no odd image breaks that either.
    kept = ("--feedback-rate", "1", "--feedback-store", str(folder / "kept"))
    with running(folder, *LIMITS, *kept) as endpoint:
        endpoint.deploy(**{name.replace("-", "_"): model for name, model in wanted.items()})
        started = Laboratory(endpoint)
        yield started
        started.sender.close()


def _acquaint(folder: Path) -> str:
    """Add to a bundle what its training images look like, so that it abstains on others; gives its new digest."""
    seen = np.stack([describe(decode(noise_png(seed))) for seed in range(30)])
    Familiar.fit(seen[:20], seen[20:]).write(folder / NOVELTY_FILE)
    bundle, _ = read_any_bundle(folder)
    files = {**bundle.files, NOVELTY_FILE: file_digest(folder / NOVELTY_FILE)}
    return write_bundle(folder, type(bundle).model_validate(bundle.model_dump() | {"files": files}))
