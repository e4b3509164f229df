"""The overlay ``dev`` on a real cluster: it comes up, answers, and loses no request when it is updated or hit."""

import base64
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from components.endpoint.client import Client
from components.endpoint.files import WantedModel
from components.endpoint.releases import publish
from components.storage import open_store
from tests.containers import Docker
from tests.infra.deployed import PASSWORD, STORE, Deployed, Load
from tests.kubernetes import SmallCluster
from tests.services import start_s3

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

log = logging.getLogger(__name__)

MODEL = "confluence-single-stack"
# The server takes no other name; the Service's address has none here.
HOST = {"Host": "mlflow:5000"}


@pytest.fixture(scope="module")
def postgres(docker: Docker) -> str:
    """An image that takes the published one's place; it stays, as our own images do, for the next run."""
    tag = "mscflow/test-postgres:15"
    base = os.environ.get("MSCFLOW_BASE_IMAGE", "python:3.11-slim-bookworm")
    folder = Path(__file__).parent / "postgres"
    docker("build", "--quiet", f"--tag={tag}", f"--build-arg=BASE={base}", str(folder), timeout=300)
    return tag


@pytest.fixture(scope="module")
def deployed(
    small_cluster: SmallCluster,
    docker: Docker,
    images: dict[str, str],
    postgres: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("small-cluster")
    names = {f"mscflow/{part}-python": images[part] for part in ("control", "predict")}
    s3 = start_s3(docker, postgres, "bridge", folder, "mscflow")
    with small_cluster.namespace() as namespace, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.outside.items():
            patch.setenv(name, value)
        found = Deployed(small_cluster, docker, namespace, folder / "overlay", {**names, "postgres": postgres}, s3)
        found.prepare()
        yield found


@pytest.fixture(scope="module")
def release(make_bundle: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """Publishes a release whose model finds one class in every image, and gives its URI."""

    def make(favour: int) -> str:
        folder = tmp_path_factory.mktemp(f"bundle-{favour}")
        wanted = WantedModel(str(folder), str(favour), make_bundle(folder, favour, weight=0.0))
        return publish(open_store(STORE), {MODEL: wanted}).uri

    return make


@pytest.fixture(scope="module")
def up(deployed: Deployed, release: Callable[[int], str]) -> Deployed:
    deployed.apply(release(1))
    deployed.wait("deployment/mlflow", "deployment/mscflow-predictor")
    return deployed


@pytest.fixture(scope="module")
def mlflow(up: Deployed) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{up.address('mlflow')}:5000", headers=HOST, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def endpoint(up: Deployed) -> str:
    return f"http://{up.address('mscflow-predictor')}"


@pytest.fixture(scope="module")
def question(png: Callable[..., bytes]) -> dict[str, Any]:
    return {"instances": [{"image": {"b64": base64.b64encode(png(1)).decode()}}]}


def kept(url: str) -> httpx.Client:
    """Make a client that keeps its connection."""
    return httpx.Client(base_url=url, trust_env=False, timeout=60)


def anew(url: httpx.URL | str, **options: Any) -> httpx.Client:
    """Make a client that connects anew for each request, so that each may meet another pod."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=url, trust_env=False, timeout=60, limits=limits, **options)


def call(client: httpx.Client, path: str, **fields: Any) -> dict[str, Any]:
    answer = client.post(f"/api/2.0/mlflow/{path}", json=fields, timeout=60)
    assert answer.is_success, f"{answer.status_code} {answer.text}"
    return dict(answer.json())


def make_run(client: httpx.Client) -> str:
    experiment = call(client, "experiments/create", name=uuid4().hex)["experiment_id"]
    return str(call(client, "runs/create", experiment_id=experiment)["run"]["info"]["run_id"])


def history(client: httpx.Client, run: str) -> list[int]:
    query = {"run_id": run, "metric_key": "loss", "max_results": 20000}
    answer = client.get("/api/2.0/mlflow/metrics/get-history", params=query, timeout=60)
    assert answer.is_success, f"{answer.status_code} {answer.text}"
    return sorted(int(each["value"]) for each in answer.json().get("metrics", ()))


def logger(client: httpx.Client, run: str, offset: int) -> Callable[[], int]:
    """Make a function that records one more value each time, and gives it."""
    values = iter(range(offset, offset + 10**6))

    def log() -> int:
        value = next(values)
        call(client, "runs/log-metric", run_id=run, key="loss", value=value, timestamp=value, step=value)
        return value

    return log


def asker(client: httpx.Client, question: dict[str, Any]) -> Callable[[], int]:
    """Make a function that asks for the class of an image, and gives it."""

    def ask() -> int:
        answer = client.post(f"/v1/models/{MODEL}:predict", json=question, timeout=30)
        assert answer.is_success, f"{answer.status_code} {answer.text}"
        return int(answer.json()["predictions"][0]["class"])

    return ask


def test_mlflow_keeps_runs_in_postgresql_and_artifacts_in_s3(up: Deployed, mlflow: httpx.Client) -> None:
    run = make_run(mlflow)
    call(mlflow, "runs/log-metric", run_id=run, key="loss", value=3, timestamp=1, step=1)
    path = f"/api/2.0/mlflow-artifacts/artifacts/{run}/note.txt"
    assert mlflow.put(path, content=b"kept").is_success
    assert open_store(STORE).read(f"mlflow/{run}/note.txt") == b"kept"
    query = ["psql", "-tA", "-h", "127.0.0.1", "-U", "mlflow", "-c", "SELECT run_uuid, value FROM metrics"]
    rows = up.kubectl("exec", "postgres-0", "--", "env", f"PGPASSWORD={PASSWORD}", *query)
    assert f"{run}|3" in rows.splitlines()


def test_mlflow_is_reached_by_its_own_name_alone(mlflow: httpx.Client) -> None:
    answer = mlflow.post("/api/2.0/mlflow/experiments/search", json={"max_results": 1}, headers={"Host": "elsewhere"})
    assert answer.status_code == 403


def test_pods_run_as_a_plain_user_and_write_to_tmp_alone(up: Deployed) -> None:
    for workload in ("deployment/mlflow", "deployment/mscflow-predictor"):
        assert up.kubectl("exec", workload, "--", "id", "-u").splitlines()[-1] == "10001"
        said = up.kubectl("exec", workload, "--", "sh", "-c", "touch /tmp/x && ! touch /x 2>&1").splitlines()[-1]
        assert "Read-only file system" in said


def test_no_request_fails_while_both_are_updated(
    up: Deployed,
    mlflow: httpx.Client,
    endpoint: str,
    question: dict[str, Any],
    release: Callable[[int], str],
) -> None:
    run, second = make_run(mlflow), release(2)
    predictions, metrics = Load(), Load()
    began = time.monotonic()
    with kept(endpoint) as one, anew(endpoint) as other, anew(mlflow.base_url, headers=HOST) as tracking:
        askers = [asker(client, question) for client in (one, other, other)]
        loggers = [logger(tracking, run, worker * 10**6) for worker in range(2)]
        with predictions.by(*askers), metrics.by(*loggers):
            up.kubectl("rollout", "restart", "deployment/mlflow")
            up.apply(second)
            up.wait("deployment/mscflow-predictor", "deployment/mlflow")
    log.info("both were updated in %.0f s", time.monotonic() - began)
    for name, load in (("predictions", predictions), ("metrics", metrics)):
        log.info("%s: %d requests failed, %d were answered", name, len(load.failures), len(load.answers))
        assert load.failures == [], f"{len(load.failures)} beside {len(load.answers)}: {load.failures[:3]}"
    assert set(predictions.answers) == {1, 2}
    assert predictions.answers[-1] == 2
    assert history(mlflow, run) == sorted(metrics.answers)


def test_a_killed_endpoint_is_started_again_and_clients_that_try_again_notice_nothing(
    up: Deployed, endpoint: str, png: Callable[..., bytes]
) -> None:
    load = Load()
    with Client(endpoint) as client, load.by(lambda: client.predict(MODEL, [("image", png(1))])[0].name):
        up.kill("mscflow-predictor", "predictor")
        await_restart(up)
        up.wait("deployment/mscflow-predictor")
    assert load.failures == []


def await_restart(up: Deployed) -> None:
    """Wait until a container of the endpoint has been started a second time."""
    deadline = time.monotonic() + 60
    while not any(each["status"]["containerStatuses"][0]["restartCount"] for each in up.pods("mscflow-predictor")):
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_killed_tracking_server_comes_back_with_all_it_knew(up: Deployed, mlflow: httpx.Client) -> None:
    run = make_run(mlflow)
    call(mlflow, "runs/log-metric", run_id=run, key="loss", value=5, timestamp=1, step=1)
    up.kubectl("delete", "pods", "--selector=app.kubernetes.io/name=mlflow", "--grace-period=0", "--force")
    up.wait("deployment/mlflow")
    with anew(mlflow.base_url, headers=HOST) as client:
        await_service(client)
        assert history(client, run) == [5]


def await_service(client: httpx.Client) -> None:
    """Wait until the only pod, ready as it is, is known to the node; until then, whoever is on the way may answer."""
    deadline = time.monotonic() + 60
    while True:
        try:
            if client.get("/health").text == "OK":
                return
        except httpx.TransportError as error:
            log.info("not yet: %r", error)
        assert time.monotonic() < deadline
        time.sleep(0.5)
