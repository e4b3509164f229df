"""In which mode KServe runs, asked of a server that answers as a cluster's API does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from components.deployment.services import InferenceServices, Mode
from components.errors import DeploymentError

CONFIGURATION = "/api/v1/namespaces/kserve/configmaps/inferenceservice-config"
KNATIVE = "/apis/serving.knative.dev"


class Cluster:
    """Answers 200 with what its paths hold, 403 for those that hold None, and 404 for all else."""

    def __init__(self) -> None:
        self.paths: dict[str, Any] = {}
        paths = self.paths

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                held = paths.get(self.path)
                code = 404 if self.path not in paths else 403 if held is None else 200
                body = json.dumps(held or {"kind": "Status", "reason": "NotFound", "message": "no"}).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def default(self, mode: str) -> None:
        deploy = json.dumps({"defaultDeploymentMode": mode})
        self.paths[CONFIGURATION] = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"deploy": deploy}}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def services(cluster: Cluster) -> Iterator[InferenceServices]:
    configuration = Configuration(host=f"http://127.0.0.1:{cluster.server.server_address[1]}")
    with ApiClient(configuration) as api:
        yield InferenceServices("cultures", api)
        api.rest_client.pool_manager.clear()


def in_mode(mode: str) -> dict[str, Any]:
    return {"metadata": {"name": "mscflow"}, "status": {"deploymentMode": mode}}


def test_where_the_configuration_may_not_be_read_knatives_api_tells(
    cluster: Cluster, services: InferenceServices
) -> None:
    cluster.paths[CONFIGURATION] = None
    assert services.mode("auto", None) == Mode(False, "Standard")
    cluster.paths[KNATIVE] = {"kind": "APIGroup"}
    assert services.mode("auto", None) == Mode(True, "Knative")


@pytest.mark.parametrize(
    ("default", "knative", "mode"),
    [
        ("Serverless", True, Mode(True, "Serverless")),
        ("Knative", True, Mode(True, "Knative")),
        ("Knative", False, Mode(False, "Standard")),  # named, but not installed
        ("RawDeployment", True, Mode(False, "RawDeployment")),
        ("Standard", True, Mode(False, "Standard")),
    ],
)
def test_kserves_default_counts_if_what_it_needs_is_there(
    cluster: Cluster, services: InferenceServices, default: str, knative: bool, mode: Mode
) -> None:
    cluster.default(default)
    if knative:
        cluster.paths[KNATIVE] = {"kind": "APIGroup"}
    assert services.mode("auto", None) == mode


def test_an_inferenceservice_keeps_its_mode(cluster: Cluster, services: InferenceServices) -> None:
    cluster.default("Standard")
    assert services.mode("auto", in_mode("Serverless")) == Mode(True, "Serverless")
    assert services.mode("standard", in_mode("RawDeployment")) == Mode(False, "RawDeployment")
    with pytest.raises(DeploymentError, match="runs in mode Knative, which KServe never changes"):
        services.mode("standard", in_mode("Knative"))
    with pytest.raises(DeploymentError, match="runs in mode ModelMesh, which runs no container"):
        services.mode("auto", in_mode("ModelMesh"))
