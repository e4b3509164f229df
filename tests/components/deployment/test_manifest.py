import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.deployment.manifest import release_of, render
from components.deployment.services import Mode
from components.endpoint.client import Client
from components.endpoint.files import WantedModel
from components.endpoint.releases import publish
from components.errors import SettingsError
from components.rollout import Rolling
from components.settings import ServingSettings
from components.storage import open_store
from tests.containers import Docker
from tests.kubernetes import CrdServer
from tests.servers import S3Server, free_ports

RELEASE = "s3://cultures/store/releases/" + "a" * 64
KNATIVE, STANDARD = Mode.named(True), Mode.named(False)
# Fields of a pod that Knative refuses, and one that it ignores.
NOT_KNATIVES = {"terminationGracePeriodSeconds", "deploymentStrategy"}


def predictor(mode: Mode, percent: int | None = None, serving: ServingSettings | None = None, **given: Any) -> Any:
    manifest = render(Rolling(target="kserve", **given), serving or ServingSettings(), mode, RELEASE, percent)
    return manifest["spec"]["predictor"]


def test_nothing_is_said_that_the_mode_would_ignore() -> None:
    knative, standard = predictor(KNATIVE, 10), predictor(STANDARD)
    assert knative["canaryTrafficPercent"] == 10
    assert not NOT_KNATIVES & set(knative)
    assert standard["deploymentStrategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert "canaryTrafficPercent" not in standard
    assert len(knative["containers"][0]["ports"]) == 1
    with pytest.raises(ValueError, match="do not split requests"):
        predictor(STANDARD, 10)


def test_secrets_are_named_and_never_said() -> None:
    container = predictor(STANDARD, storage_secret="keys", config_map="where", token_secret="tokens")["containers"][0]
    given = {each["name"]: each for each in container["env"]}
    assert given["AWS_SECRET_ACCESS_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "keys"
    assert given["AWS_ENDPOINT_URL"]["valueFrom"]["configMapKeyRef"]["name"] == "where"
    keys = [given[f"AWS_{name}"] for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")]
    # An account of the cloud may stand for them.
    assert all(each["valueFrom"]["secretKeyRef"]["optional"] for each in keys)
    assert all("value" not in each for name, each in given.items() if name != "HOME")
    assert container["args"][-2:] == ["--token-file", "/etc/mscflow/tokens"]


def test_the_servers_limits_go_along_and_its_place_on_this_machine_does_not() -> None:
    serving = ServingSettings(host="127.0.0.1", port=9000, queue=99)
    arguments = predictor(STANDARD, serving=serving)["containers"][0]["args"]
    assert arguments[arguments.index("--queue") + 1] == "99"
    assert arguments[arguments.index("--host") + 1] == "0.0.0.0"  # noqa: S104
    assert "9000" not in arguments
    with pytest.raises(SettingsError, match=r"serving\.token_file is a file of this machine.*rollout\.token_secret"):
        predictor(STANDARD, serving=ServingSettings(token_file="tokens"))


@pytest.mark.parametrize("mode", [KNATIVE, STANDARD])
def test_a_pod_that_fetches_its_release_is_not_taken_for_dead_before_its_rollout_gives_up(mode: Mode) -> None:
    probe = predictor(mode, timeout=1801.0)["containers"][0]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1801


def test_a_release_is_found_again_in_what_was_written() -> None:
    assert release_of(render(Rolling(), ServingSettings(), KNATIVE, RELEASE)) == RELEASE
    assert release_of({"spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}}}}}) is None


@pytest.mark.cluster
def test_the_predictors_image_serves_what_is_written(
    docker: Docker,
    images: dict[str, str],
    s3_uri: str,
    s3_server: S3Server,
    make_bundle: Callable[..., str],
    png: Callable[..., bytes],
    tmp_path: Path,
) -> None:
    wanted = WantedModel(str(tmp_path), "1", make_bundle(tmp_path, favour=2))
    release = publish(open_store(s3_uri), {"confluence-single-stack": wanted}).uri
    container = render(Rolling(), ServingSettings(), STANDARD, release)["spec"]["predictor"]["containers"][0]
    # What the pod would have of its own: an address, and the variables that the secret and the settings hold.
    ports = dict(zip(("8080", "8081"), map(str, free_ports(2)), strict=True))
    arguments = [ports.get(each, each) for each in container["args"]]
    held = {each["name"]: each.get("value") or s3_server.environment()[each["name"]] for each in container["env"]}
    running = docker.start(images["predict"], *container["command"], *arguments, network="host", environment=held)
    with Client(f"http://127.0.0.1:{ports['8080']}", patience=60) as client:
        client.models()  # it waits until the server listens
        while client.why_not_ready() is not None:
            assert running.state() == "running", running.logs()
            time.sleep(0.1)
        (answer,) = client.predict("confluence-single-stack", [("image.png", png())])
    assert (answer.digest, answer.confluence_class) == (wanted.digest, 2)


@pytest.mark.cluster
@pytest.mark.parametrize("mode", [KNATIVE, STANDARD])
def test_the_api_server_takes_it_and_refuses_what_is_misspelt(crd_server: CrdServer, mode: Mode) -> None:
    rolling = Rolling(target="kserve", token_secret="tokens", payload_url="http://payloads")
    manifest = render(rolling, ServingSettings(), mode, RELEASE, 10 if mode.knative else None)
    crd_server.check(manifest)
    manifest["spec"]["predictor"]["canaryTraficPercent"] = 10
    with pytest.raises(RuntimeError, match="canaryTraficPercent"):
        crd_server.check(manifest)
