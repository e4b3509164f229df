"""The API server of a Kubernetes cluster, as a step or a person at a terminal may use it."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from kubernetes import client, config
from kubernetes.client import ApiClient, ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from components.errors import ClusterError, ClusterUnavailable
from components.patience import patience

_TIMEOUT = (5, 30)  # seconds to connect, and to wait for an answer
_AWAY = frozenset({408, 429, 500, 502, 503, 504})
_LOG_BYTES = 1 << 20
_OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Manifest = dict[str, Any]
T = TypeVar("T")


class ApiServer:
    """Objects and logs of one namespace; a server that is away for a moment is waited for.

    Args:
        namespace: Of all that is asked for.
        api: As ``connect`` gives it.
    """

    def __init__(self, namespace: str, api: ApiClient | None = None) -> None:
        self.namespace = namespace
        self._api = api or connect()
        self._objects, self._core = client.CustomObjectsApi(self._api), client.CoreV1Api(self._api)

    def create(self, plural: str, manifest: Manifest) -> Manifest | None:
        """Create a custom resource, refused if it has a field that is not known; None if there is one of its name."""
        where = {**self._place(plural, manifest["apiVersion"]), "field_validation": "Strict"}
        create = self._objects.create_namespaced_custom_object
        what = f"create {plural}/{manifest['metadata']['name']}"
        return self._ask(what, lambda: create(**where, body=manifest), {409})

    def get(self, plural: str, version: str, name: str) -> Manifest | None:
        """Give a custom resource, None if there is none of this name."""
        get, where = self._objects.get_namespaced_custom_object, self._place(plural, version)
        return self._ask(f"get {plural}/{name}", lambda: get(**where, name=name), {404})

    def find(self, plural: str, version: str, labels: str) -> list[Manifest]:
        """Give the custom resources with labels, written as ``key=value,...``."""
        get, where = self._objects.list_namespaced_custom_object, self._place(plural, version)
        found = self._ask(f"list {plural}", lambda: get(**where, label_selector=labels), set())
        return list((found or {}).get("items", []))

    def delete(self, plural: str, version: str, name: str, uid: str) -> None:
        """Delete a custom resource and, before it, what belongs to it; one of another uid is left alone."""
        options = client.V1DeleteOptions(propagation_policy="Foreground", preconditions=client.V1Preconditions(uid=uid))
        delete, where = self._objects.delete_namespaced_custom_object, self._place(plural, version)
        self._ask(f"delete {plural}/{name}", lambda: delete(**where, name=name, body=options), {404, 409})

    def pods(self, labels: str) -> list[Manifest]:
        """Give the pods with labels, as plain data."""
        get = self._core.list_namespaced_pod
        options = {"label_selector": labels, "_request_timeout": _TIMEOUT}
        found = self._ask("list pods", lambda: get(self.namespace, **options), set())
        return list(self._api.sanitize_for_serialization(found)["items"])

    def log(self, pod: str, container: str, seconds: int | None = None) -> str:
        """Give what a container wrote, each line with its time before it; empty where it has not started.

        Args:
            pod: Its name.
            container: Its name.
            seconds: How far back; None for all that is kept.
        """
        get = self._core.read_namespaced_pod_log
        options = {"container": container, "timestamps": True, "limit_bytes": _LOG_BYTES, "_request_timeout": _TIMEOUT}
        if seconds is not None:
            options["since_seconds"] = seconds
        # Read as bytes, as the limit may cut a character in two.
        options["_preload_content"] = False
        told = self._ask(f"read the log of {pod}", lambda: get(pod, self.namespace, **options).data, {400, 404})
        return (told or b"").decode(errors="replace")

    def _place(self, plural: str, version: str) -> dict[str, Any]:
        group, _, of_group = version.partition("/")
        place = {"group": group, "version": of_group, "namespace": self.namespace, "plural": plural}
        return {**place, "_request_timeout": _TIMEOUT}

    def _ask(self, what: str, call: Callable[[], T], nothing: set[int]) -> T | None:
        """Give what a call gives, and None where it is answered with one of the codes that say 'there is nothing'."""
        deadline, wait = time.monotonic() + patience(), 0.5
        while True:
            try:
                return call()
            except ApiException as error:
                if error.status in nothing and not _unknown_page(error):
                    return None
                if error.status not in _AWAY or time.monotonic() > deadline:
                    raise self._refusal(what, error) from error
            except HTTPError as error:
                if time.monotonic() > deadline:
                    raise ClusterUnavailable(
                        f"the API server {self._host} does not answer ({type(error).__name__}); check the kubeconfig "
                        "and that the cluster runs"
                    ) from error
            time.sleep(wait)
            wait = min(2 * wait, 10.0)

    @property
    def _host(self) -> str:
        return cast(str, self._api.configuration.host)

    def _refusal(self, what: str, error: ApiException) -> ClusterError:
        where = f"the API server {self._host}, asked to {what} in namespace '{self.namespace}',"
        if error.status in (401, 403):
            return ClusterError(f"{where} does not let this account: {_told(error)}; give its ServiceAccount the right")
        if error.status == 404 and _unknown_page(error):
            return ClusterError(f"{where} knows no such kind; install the controller that brings it")
        return ClusterError(f"{where} refused: {_told(error)}")


def connect() -> ApiClient:
    """Connect as the pod's ServiceAccount, elsewhere as the kubeconfig says.

    Raises:
        ClusterUnavailable: if there is neither.
    """
    configuration = client.Configuration()
    try:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except ConfigException:
            # Named, as the library reads the variable once, when it is imported.
            config.load_kube_config(os.environ.get("KUBECONFIG") or None, client_configuration=configuration)
    except ConfigException as error:
        raise ClusterUnavailable(
            f"no cluster: this is no pod, and there is no kubeconfig ({error}); set KUBECONFIG"
        ) from error
    configuration.retries = False  # this module waits itself
    return ApiClient(configuration)


def own_namespace() -> str:
    """Name the namespace of the pod that this process is in; empty elsewhere."""
    try:
        return _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _unknown_page(error: ApiException) -> bool:
    """Whether not the object is missing, but its kind."""
    return error.status == 404 and _status(error).get("reason") != "NotFound"


def _told(error: ApiException) -> str:
    return " ".join(str(_status(error).get("message", f"{error.status} {error.reason}")).split())


def _status(error: ApiException) -> Manifest:
    with suppress(TypeError, ValueError):
        status = json.loads(error.body)
        return status if isinstance(status, dict) else {}
    return {}
