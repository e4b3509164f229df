"""An endpoint with traffic of every kind behind it, and the programs of Prometheus."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from components.endpoint.files import WantedModel, write_desired
from tests.serving.conftest import MODEL, Endpoint, add_novelty, b64, running

ROOT = Path(__file__).parents[2]
DETECTOR = "abnormal-cells"


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Gives the path of a program of Prometheus, or skips the test."""

    def find(name: str) -> str:
        places = os.pathsep.join([os.environ.get("PATH", ""), f"{sys.prefix}/prometheus/usr/bin"])
        found = shutil.which(name, path=places)
        if found is None:
            pytest.skip(f"{name} is not here; on Debian and Ubuntu, 'bash infra/prometheus.sh .venv' fetches it")
        return found

    return find


@pytest.fixture(scope="session")
def busy(
    tmp_path_factory: pytest.TempPathFactory,
    make_bundle: Callable[..., str],
    make_detector: Callable[..., str],
    png: Callable[..., bytes],
) -> Iterator[Endpoint]:
    """An endpoint of two models, of which one was swapped and one rejected; ``ask`` gives it requests of all kinds."""
    folder = tmp_path_factory.mktemp("busy")

    def wanted(version: str, make: Callable[..., str], **options: Any) -> WantedModel:
        place = folder / version
        return WantedModel(str(place), version, make(place, **options))

    def with_novelty(place: Path, **options: Any) -> str:
        make_bundle(place, **options)
        return add_novelty(place, [png(seed) for seed in range(8)])

    models = {MODEL: wanted("1", with_novelty, min_confidence=0.9, weight=0.1), DETECTOR: wanted("2", make_detector)}
    write_desired(folder, models)
    store = folder / "store"
    with running(folder, "--feedback-rate", "1", "--feedback-store", str(store)) as endpoint:
        endpoint.wait(lambda status: status.ready)
        broken = WantedModel(str(folder / "nowhere"), "3", "0" * 64)
        endpoint.deploy(confluence_single_stack=broken, abnormal_cells=models[DETECTOR])
        endpoint.ask = lambda: ask(endpoint, png(1))
        endpoint.ask()
        yield endpoint


def ask(endpoint: Endpoint, image: bytes) -> None:
    for model in (MODEL, DETECTOR):
        assert endpoint.predict(image, model=model).status_code == 200
    assert endpoint.predict(b"no image").status_code == 400
    assert endpoint.predict(image, model="made-up").status_code == 404
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [b64(image)]}
    assert endpoint.http.post(f"/v2/models/{MODEL}/infer", json={"inputs": [tensor]}).status_code == 200
    with grpc.insecure_channel(endpoint.grpc) as channel:
        given = {"name": "image", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [image]}}
        GRPCInferenceServiceStub(channel).ModelInfer(ModelInferRequest(model_name=MODEL, inputs=[given]), timeout=60)
