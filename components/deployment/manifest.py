"""The InferenceService that serves a release."""

import math
from typing import Any

from components.apiserver import Manifest
from components.deployment.services import KIND, MODE_ANNOTATION, VERSION, Mode
from components.errors import SettingsError
from components.rollout import Rolling
from components.settings import ServingSettings

CONTAINER = "kserve-container"  # what KServe wants the container to be called that answers
PORT, GRPC_PORT = 8080, 8081
DRAIN_SECONDS = 10
TOKENS_FOLDER = "/etc/mscflow"
# What a server of this machine is told of its addresses and files; a pod has its own.
_OWN = {"host", "port", "grpc_port", "start_timeout", "token_file", "tls_certificate", "tls_key", "tls_client_ca"}
_LABELS = {"app.kubernetes.io/name": "mscflow-inference", "app.kubernetes.io/part-of": "mscflow"}


def render(
    rolling: Rolling, serving: ServingSettings, mode: Mode, release: str, percent: int | None = None
) -> Manifest:
    """Give the InferenceService that serves a release.

    It depends on its arguments alone, and says nothing that its mode would ignore: KServe passes labels and
    annotations on to the pods, so that each word that changes starts new ones.

    Args:
        rolling: Names, sizes and bounds.
        serving: Limits of the server in it.
        mode: In which KServe runs it.
        release: The release's URI.
        percent: Of the requests, those that a new release gets; None for all. Knative alone splits them.

    Raises:
        SettingsError: if it is to read a file of this machine.
    """
    if percent is not None and not mode.knative:
        raise ValueError("plain Deployments do not split requests")
    annotations = {MODE_ANNOTATION: mode.spelling, "serving.kserve.io/enable-prometheus-scraping": "true"}
    return {
        "apiVersion": VERSION,
        "kind": KIND,
        "metadata": {
            "name": rolling.service,
            "namespace": rolling.namespace,
            "labels": dict(_LABELS),
            "annotations": annotations
            | {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT), "prometheus.io/path": "/metrics"},
        },
        "spec": {"predictor": _predictor(rolling, serving, mode, release, percent)},
    }


def release_of(manifest: Manifest) -> str | None:
    """Give the URI of the release that an InferenceService of ours serves, None if it is not one of ours."""
    for container in manifest.get("spec", {}).get("predictor", {}).get("containers") or []:
        given = container.get("args") or []
        if "--release" in given[:-1]:
            return str(given[given.index("--release") + 1])
    return None


def _predictor(rolling: Rolling, serving: ServingSettings, mode: Mode, release: str, percent: int | None) -> Manifest:
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {"sizeLimit": rolling.temporary}}]
    if rolling.token_secret:
        volumes.append({"name": "tokens", "secret": {"secretName": rolling.token_secret}})
    predictor: Manifest = {
        "serviceAccountName": rolling.predictor_account,
        "automountServiceAccountToken": False,
        "minReplicas": rolling.min_replicas,
        "maxReplicas": max(rolling.max_replicas, rolling.min_replicas),
        **(_by_knative(rolling, percent) if mode.knative else _by_deployment(rolling)),
        "containers": [_container(rolling, serving, mode, release)],
        "volumes": volumes,
    }
    if rolling.payload_url:
        predictor["logger"] = {"mode": "all", "url": rolling.payload_url}
    return predictor


def _by_knative(rolling: Rolling, percent: int | None) -> Manifest:
    share = {} if percent is None else {"canaryTrafficPercent": percent}
    return {"scaleMetric": "concurrency", "scaleTarget": rolling.concurrency, **share}


def _by_deployment(rolling: Rolling) -> Manifest:
    """Give what Knative would refuse or ignore."""
    return {
        "scaleMetric": "cpu",
        "scaleTarget": rolling.cpu_percent,
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "terminationGracePeriodSeconds": 60,
    }


def _container(rolling: Rolling, serving: ServingSettings, mode: Mode, release: str) -> Manifest:
    resources = {"cpu": rolling.cpu, "memory": rolling.memory}
    ports = [{"containerPort": PORT, "name": "http1", "protocol": "TCP"}]
    if not mode.knative:  # which takes one port
        ports.append({"containerPort": GRPC_PORT, "name": "grpc", "protocol": "TCP"})
    container: Manifest = {
        "name": CONTAINER,
        "image": rolling.image,
        "command": ["python", "-m", "serving"],
        "args": ["--release", release, *_options(rolling, serving)],
        "env": _environment(rolling),
        "ports": ports,
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "readinessProbe": {**_probe("ready"), "periodSeconds": 5, "failureThreshold": 3},
        # It answers once the release is fetched and its libraries are imported, which a rollout waits for as long.
        "startupProbe": {**_probe("live"), "periodSeconds": 5, "failureThreshold": math.ceil(rolling.timeout / 5)},
        "livenessProbe": {**_probe("live"), "periodSeconds": 10, "failureThreshold": 6},
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  the pod's own
    }
    if rolling.token_secret:
        container["volumeMounts"].append({"name": "tokens", "mountPath": TOKENS_FOLDER, "readOnly": True})
    return container


def _options(rolling: Rolling, serving: ServingSettings) -> list[str]:
    files = ("token_file", "tls_certificate", "tls_key", "tls_client_ca")
    given = next((name for name in files if getattr(serving, name) is not None), None)
    if given is not None:
        raise SettingsError(
            f"serving.{given} is a file of this machine, which no pod can read; give rollout.token_secret for tokens, "
            "and let the cluster's gateway do TLS"
        )
    changed = serving.model_dump(exclude=_OWN, exclude_defaults=True)
    addresses: dict[str, Any] = {"host": "0.0.0.0", "port": PORT, "grpc_port": GRPC_PORT}  # noqa: S104  in its pod
    # Until the last balancer has heard that a pod is going, it still sends requests.
    addresses["drain"] = DRAIN_SECONDS
    if rolling.token_secret:
        addresses["token_file"] = f"{TOKENS_FOLDER}/tokens"
    return [
        text for name, value in (addresses | changed).items() for text in (f"--{name.replace('_', '-')}", str(value))
    ]


def _environment(rolling: Rolling) -> list[Manifest]:
    def from_map(name: str) -> Manifest:
        # Amazon's own S3 has no such address.
        return {
            "name": name,
            "valueFrom": {"configMapKeyRef": {"name": rolling.config_map, "key": name, "optional": True}},
        }

    def from_secret(name: str) -> Manifest:
        # A pod whose account stands for the keys has no such secret.
        return {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": rolling.storage_secret, "key": name, "optional": True}},
        }

    return [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108
        *(from_map(name) for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")),
        *(from_secret(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
    ]


def _probe(what: str) -> Manifest:
    return {"httpGet": {"path": f"/v2/health/{what}", "port": PORT, "scheme": "HTTP"}, "timeoutSeconds": 5}
