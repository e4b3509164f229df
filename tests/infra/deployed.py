"""The overlay ``dev`` on the small cluster, in a namespace of its own, and its load."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tests.containers import Docker
from tests.infra.manifests import Manifest, render_changed
from tests.kubernetes import SmallCluster
from tests.services import S3Service

# Kubernetes 1.20 does not serve these, nor does it make the difference that they make.
UNSERVED = {"policy/v1", "autoscaling/v2"}
STORE, PASSWORD = "s3://mscflow/store", "tests-only"


@dataclass(frozen=True)
class Deployed:
    """What an operator does with the overlay, and what befalls it.

    Attributes:
        namespace: Its own.
        folder: For kustomizations.
        images: What is run, by the names that the manifests give.
        s3: Beside the cluster.
    """

    cluster: SmallCluster
    docker: Docker
    namespace: str
    folder: Path
    images: dict[str, str]
    s3: S3Service

    def prepare(self) -> None:
        """Start the database, and write the secrets; they name it by its address, as there is no DNS here."""
        self._secret("mscflow-s3", {key: value for key, value in self.s3.outside.items() if "KEY" in key})
        self._secret("mscflow-database", {"password": PASSWORD})
        self.apply(only="postgres")
        uri = f"postgresql+psycopg2://mlflow:{PASSWORD}@{self.address('postgres')}:5432/mlflow"
        self._secret("mscflow-database", {"password": PASSWORD, "uri": uri})
        self.wait("statefulset/postgres")

    def apply(self, release: str = "", only: str = "") -> None:
        """Apply the overlay.

        Args:
            release: URI of what the endpoint serves.
            only: Name of the objects to apply; default: all.
        """
        chosen = [each for each in self._render(release) if only in ("", each["metadata"]["name"])]
        self.cluster.apply(*chosen, namespace=self.namespace)

    def wait(self, *workloads: str, seconds: int = 400) -> None:
        """Wait until workloads, such as ``deployment/mlflow``, run as they were last described."""
        for workload in workloads:
            self.kubectl("rollout", "status", workload, f"--timeout={seconds}s", timeout=seconds + 20)

    def address(self, service: str) -> str:
        """Give a Service's address, which this machine reaches, too."""
        return str(self.cluster.get("service", service, self.namespace)["spec"]["clusterIP"])

    def pods(self, app: str) -> list[Manifest]:
        """Give the pods of an application that are there to stay."""
        found = self.kubectl("get", "pods", f"--selector=app.kubernetes.io/name={app}", "--output=json")
        return [pod for pod in json.loads(found)["items"] if "deletionTimestamp" not in pod["metadata"]]

    def kill(self, app: str, container: str) -> None:
        """Kill a container of one of an application's pods, as a lack of memory would."""
        labels = {"pod.name": self.pods(app)[0]["metadata"]["name"], "container.name": container}
        filters = [f"--filter=label=io.kubernetes.{key}={value}" for key, value in labels.items()]
        [found] = self.docker("ps", "--quiet", *filters).split()
        self.docker("kill", found)

    def kubectl(self, *arguments: str, timeout: float = 60) -> str:
        """Run kubectl in the namespace."""
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, timeout=timeout)

    def _render(self, release: str) -> list[Manifest]:
        made = {"name": "mscflow-release", "namespace": "mscflow", "behavior": "merge"}
        images = [(name, *tag.rsplit(":", 1)) for name, tag in self.images.items()]
        rendered = render_changed(
            "dev",
            self.folder,
            namespace=self.namespace,
            images=[{"name": name, "newName": new, "newTag": tag} for name, new, tag in images],
            replicas=[{"name": "mscflow-predictor", "count": 2}],
            configMapGenerator=[{**made, "literals": [f"RELEASE={release}"]}],
            patches=[{"target": target, "patch": json.dumps(patch)} for target, patch in self._patches()],
        )
        return [each for each in rendered if each["apiVersion"] not in UNSERVED and each["kind"] != "Namespace"]

    def _patches(self) -> Iterator[tuple[dict[str, str], list[dict[str, Any]]]]:
        data = {"AWS_ENDPOINT_URL": self.s3.outside["AWS_ENDPOINT_URL"], "MSCFLOW_STORE": STORE}
        yield (
            {"kind": "ConfigMap", "name": "mscflow"},
            [{"op": "add", "path": f"/data/{key}", "value": value} for key, value in data.items()],
        )
        # There is no storage class: the data lie with the pod.
        volume = {"op": "add", "path": "/spec/template/spec/volumes/-", "value": {"name": "data", "emptyDir": {}}}
        target = {"kind": "StatefulSet", "name": "postgres"}
        yield target, [{"op": "remove", "path": "/spec/volumeClaimTemplates"}, volume]

    def _secret(self, name: str, data: dict[str, str]) -> None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        self.cluster.apply(secret, namespace=self.namespace)


class Load:
    """Requests made without a pause by threads, and what became of them."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.failures: list[str] = []
        self._began = time.monotonic()

    @contextmanager
    def by(self, *askers: Callable[[], Any]) -> Iterator["Load"]:
        """Have each function called again and again by a thread of its own for as long as the block lasts."""
        over = Event()
        threads = [Thread(target=self._ask, args=(ask, over)) for ask in askers]
        for thread in threads:
            thread.start()
        try:
            yield self
            # What comes after the last change belongs to it.
            time.sleep(2)
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _ask(self, ask: Callable[[], Any], over: Event) -> None:
        while not over.is_set():
            try:
                self.answers.append(ask())
            except Exception as error:
                self.failures.append(f"after {time.monotonic() - self._began:.1f} s: {error!r}")
            time.sleep(0.02)
