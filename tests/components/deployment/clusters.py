"""Clusters that tests roll out to: a real API server, on which what KServe's controller does is played."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from kubernetes.config import new_client_from_config

from components.deployment.kserve import ClusterEndpoint
from components.deployment.manifest import release_of
from components.deployment.places import Rolled
from components.deployment.services import InferenceServices
from components.endpoint.client import Client
from components.endpoint.files import WantedModel
from components.rollout import Rolling
from components.settings import ServingSettings
from tests.components.deployment.controller import Behaviour, Controller, Servers
from tests.kubernetes import CrdServer

MODEL, CELLS = "confluence-single-stack", "abnormal-cells"
QUICK: dict[str, Any] = {"canary": (20, 50), "samples": 4, "hold": 0, "interval": 0.05, "timeout": 60.0}
QUICK |= {"min_replicas": 1, "max_replicas": 1}


class Made:
    """A cluster with one endpoint, and the versions to roll out to it."""

    def __init__(self, controller: Controller, services: InferenceServices, rolling: Rolling, store: Path) -> None:
        self.controller, self.services, self.rolling, self._store = controller, services, rolling, store
        self.behaviour = controller.behaviour

    def endpoint(self, **changes: Any) -> ClusterEndpoint:
        rolling = self.rolling.model_copy(update=changes)
        return ClusterEndpoint(rolling, ServingSettings(), str(self._store), self.services)

    def roll_out(self, wanted: WantedModel, name: str = MODEL, **changes: Any) -> Rolled:
        return self.endpoint(**changes).roll_out(name, wanted)

    def found(self) -> dict[str, Any] | None:
        return self.services.read("mscflow")

    def specified(self) -> tuple[str | None, int | None]:
        found = self.found() or {}
        return release_of(found), found["spec"]["predictor"].get("canaryTrafficPercent")

    def percents(self) -> list[int | None]:
        """What was written into the InferenceService, one after another."""
        return [percent for name, _, percent in self.controller.seen if name == "mscflow"]


@contextmanager
def cluster(server: CrdServer, servers: Servers, store: Path, **behaviour: Any) -> Iterator[Made]:
    """A namespace of its own, whose controller behaves as it is told to."""
    namespace = f"mscflow-test-{uuid4().hex[:12]}"
    api = new_client_from_config(str(server.kubeconfig))
    behaving = Behaviour(**behaviour)
    mode = "knative" if behaving.knative else "standard"
    rolling = Rolling(target="kserve", namespace=namespace, mode=mode, **QUICK)
    with Controller(server.client(), namespace, servers, behaving) as controller:
        yield Made(controller, InferenceServices(namespace, api), rolling, store)
    api.rest_client.pool_manager.clear()


def answering(url: str, image: bytes, model: str = MODEL) -> str:
    with Client(url) as client:
        (answer,) = client.stream(model, [("image.png", image)])
    assert answer.prediction is not None
    return answer.prediction.model_version


class Everything(set[str]):
    """All releases but one, as those of a test are not known before they are made."""

    def __init__(self, except_for: str) -> None:
        super().__init__()
        self._other = except_for

    def __contains__(self, release: object) -> bool:
        return release != self._other


class Slow(dict[str, float]):
    """Seconds of all releases but one."""

    def __init__(self, except_for: str, seconds: float) -> None:
        super().__init__()
        self._other, self._seconds = except_for, seconds

    def get(self, release: str, default: float = 0.0) -> float:  # type: ignore[override]
        return default if release == self._other else self._seconds
