"""The endpoint on a cluster: an InferenceService whose pods serve a release from the object store."""

from collections.abc import Mapping

from components.apiserver import Manifest
from components.deployment.held import Held
from components.deployment.manifest import release_of, render
from components.deployment.places import Rolled
from components.deployment.services import InferenceServices
from components.deployment.standing import Standings
from components.deployment.trial import Trial
from components.deployment.ways import Canary, Trialled
from components.endpoint.files import WantedModel
from components.endpoint.releases import ReleasedModel, address_of, publish, read_release
from components.errors import DeploymentError, InputError
from components.lifeline import ended_by_signal
from components.rollout import Rolling
from components.settings import ServingSettings
from components.storage import open_store


class ClusterEndpoint:
    """The endpoint that an InferenceService is.

    Args:
        rolling: Which one, and how it is rolled out to.
        serving: Limits of the servers in it.
        store_uri: Object store that the pods read releases from.
        services: The API server; that which the pod or the kubeconfig names, where it is not given.

    Raises:
        InputError: if the store is a folder: pods have no folder of this machine.
    """

    def __init__(
        self, rolling: Rolling, serving: ServingSettings, store_uri: str, services: InferenceServices | None = None
    ) -> None:
        self._rolling, self._serving = rolling, serving
        self._store = open_store(store_uri)
        if services is None and not self._store.remote:
            raise InputError(f"store '{store_uri}' is a folder, which the pods cannot read; give s3://bucket/prefix")
        self._services = services or InferenceServices(rolling.namespace)
        self._standings = Standings(self._store, rolling.namespace, rolling.service)
        self.name = f"inferenceservice:{rolling.namespace}/{rolling.service}"

    def served(self) -> dict[str, WantedModel]:
        """Give what the endpoint was last seen to serve, by model; paths are empty."""
        release = self._standings.read().release
        return _models(release) if release else {}

    def exists(self) -> bool:
        """Whether there is an InferenceService."""
        return self._services.read(self._rolling.service) is not None

    def roll_out(self, name: str, wanted: WantedModel) -> Rolled:
        """Bring a version of a model into service, beside the other models that are served.

        Args:
            name: The model.
            wanted: The version, with its bundle on this machine.

        Raises:
            ClusterError: if the API server refuses.
            DeploymentError: if it does not serve; what served before does.
            RolloutLost: if somebody else changed or deleted the InferenceService meanwhile.
        """
        rolling = self._rolling
        # Each step waits for its share and then asks; at last all is given, asked for, or taken back.
        most = rolling.timeout * (2 * len(rolling.canary) + 3)
        turn = self._standings.take_turn(most, rolling.timeout)
        stands = None
        try:
            with ended_by_signal():
                done = self._bring(name, wanted, self._standings.read().release)
            stands = done.about["release"]
        finally:
            self._standings.end_turn(turn, stands)
        return done

    def _bring(self, name: str, wanted: WantedModel, stands: str | None) -> Rolled:
        found = self._services.read(self._rolling.service)
        mode = self._services.mode(self._rolling.mode, found)
        # What passed its checks last is what is gone back to, whatever a killed rollout or another hand left there.
        stood = stands or (release_of(found) if found is not None else None)
        before = stood if found is not None else None
        if found is not None and before is None:
            raise DeploymentError(
                f"{self.name} is none of mscflow's; set rollout.service to another name, or delete it"
            )
        # Where the InferenceService was deleted, the other models come back with it.
        previous = _models(stood) if stood else {}
        release = self._publish({**previous, name: wanted}, name)

        def rendered(uri: str, percent: int | None) -> Manifest:
            return render(self._rolling, self._serving, mode, uri, percent)

        kind = Canary if mode.knative else Trialled
        held, trial = (
            Held(self._services, self._rolling.service, found),
            Trial(self._rolling, name, wanted, joins=name not in previous),
        )
        url = kind(self._services, held, self._rolling, rendered, trial).bring(release, before)
        about = {"url": url, "grpc_url": None, "pid": None, "release": release, "mode": mode.spelling}
        return Rolled(about, previous, started=found is None)

    def _publish(self, models: Mapping[str, WantedModel], new: str) -> str:
        """Put the release into the store; the bundles of the other models lie there already."""
        released = {name: ReleasedModel(each.version, each.digest) for name, each in models.items()}
        return publish(self._store, {new: models[new]}, released).uri


def _models(release: str) -> dict[str, WantedModel]:
    held = read_release(address_of(release)).models
    return {name: WantedModel("", each.version, each.digest) for name, each in held.items()}
