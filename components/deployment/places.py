"""Where a model is rolled out to: this machine or a cluster, behind one interface."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from components.deployment import local, rollouts
from components.endpoint.files import WantedModel, read_desired
from components.errors import DeploymentError, InputError
from components.rollout import Rolling
from components.settings import ServingSettings


class Rolled(NamedTuple):
    """A rollout that succeeded.

    Attributes:
        about: ``url``, and what else is to be known of the place.
        previous: What was served before, by model.
        started: Whether the endpoint was started for it.
    """

    about: dict[str, Any]
    previous: Mapping[str, WantedModel]
    started: bool


class Place(Protocol):
    """An endpoint that models are rolled out to."""

    @property
    def name(self) -> str:
        """What the audit log calls it."""

    def served(self) -> Mapping[str, WantedModel]:
        """Give what it was last asked to serve, by model."""

    def roll_out(self, name: str, wanted: WantedModel) -> Rolled:
        """Bring a version of a model into service; whatever goes wrong, what served before serves on.

        Raises:
            DeploymentError: if it does not serve.
            EndpointUnavailable: if the endpoint cannot have its ports.
        """


class ThisMachine:
    """The server process of a home."""

    def __init__(self, home: Path, serving: ServingSettings) -> None:
        self._home, self._serving = home, serving
        self.name = rollouts.endpoint_of(home)

    def runs(self) -> bool:
        """Whether the server runs."""
        running: bool = local.status(self._home)["running"]
        return running

    def served(self) -> Mapping[str, WantedModel]:
        """See ``Place.served``."""
        try:
            return read_desired(self._home / "endpoint").models
        except DeploymentError:
            return {}

    def roll_out(self, name: str, wanted: WantedModel) -> Rolled:
        """See ``Place.roll_out``."""
        done = local.roll_out(self._home, self._serving, {name: wanted})
        about = {**local.addresses(done.status), "pid": done.status.pid}
        return Rolled(about, done.previous, done.started)


def place(home: Path, serving: ServingSettings, store_uri: str | None, rolling: Rolling | None) -> Place:
    """Give the place that the settings name; None names this machine.

    Raises:
        InputError: if a cluster is named, and no object store that its pods can read.
    """
    if rolling is None or rolling.target == "local":
        return ThisMachine(home, serving)
    if store_uri is None:
        raise InputError("rollout.target is kserve, and no store is given; give --store s3://bucket/prefix")
    from components.deployment.kserve import ClusterEndpoint

    return ClusterEndpoint(rolling, serving, store_uri)
