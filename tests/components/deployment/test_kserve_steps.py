"""The rollout steps between a real registry, a real S3 server and an InferenceService."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.config import kube_config

from components.audit.log import AuditLog
from components.deployment import champion, steps
from components.errors import DeploymentError, InputError, RolloutLost
from components.registry.crown import crown
from components.registry.versions import Registry
from components.settings import ServingSettings
from components.storage import open_store
from tests.components.deployment.clusters import MODEL, Everything, Made, answering, cluster
from tests.components.deployment.controller import Servers
from tests.kubernetes import CrdServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(200)]


class Laboratory:
    """A registry and a cluster; each step has a home of its own, as on a cluster."""

    def __init__(self, made: Made, registry: Registry, folder: Path, make_bundle: Callable[..., str]) -> None:
        self.made, self.registry, self._folder, self._make = made, registry, folder, make_bundle
        self._homes = 0

    def release(self, favour: int) -> str:
        self._make(self._folder / "trained", favour=favour)
        version = self.registry.register(self._folder / "trained").version
        crown(self.registry, version, self.registry.champion(MODEL), "model.promoted")
        return version.version

    def where(self) -> tuple[Any, ...]:
        self._homes += 1
        home = self._folder / f"home of step {self._homes}"
        return self.registry.uri, home, ServingSettings(), self.registry.audit.store.uri, self.made.rolling

    def deploy(self) -> dict[str, Any]:
        return steps.deploy(MODEL, "champion", *self.where())

    def verify(self, done: dict[str, Any]) -> dict[str, Any]:
        return steps.verify_known(done["url"], MODEL, done["digest"], *self.where()[:2])

    def told(self) -> list[tuple[str, str]]:
        entries = self.registry.audit.entries()
        return [(each.action.removeprefix("model."), each.subject.rpartition("/")[2]) for each in entries]


@pytest.fixture
def laboratory(
    crd_server: CrdServer,
    s3_uri: str,
    sqlite_uri: str,
    tmp_path: Path,
    make_bundle: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Laboratory]:
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(crd_server.kubeconfig))
    servers = Servers(tmp_path / "servers")
    registry = Registry(sqlite_uri, tmp_path, AuditLog(open_store(s3_uri)))
    with cluster(crd_server, servers, tmp_path) as made:
        yield Laboratory(made, registry, tmp_path, make_bundle)
    servers.stop()


def test_a_champion_is_rolled_out_verified_and_rolled_back(laboratory: Laboratory, png: Callable[..., bytes]) -> None:
    laboratory.release(favour=1)
    done = laboratory.deploy()
    assert (done["version"], done["started"], done["swapped"]) == ("1", True, False)
    laboratory.release(favour=2)
    done = laboratory.deploy()
    assert (done["version"], done["started"], done["swapped"]) == ("2", False, True)
    assert done["release"].startswith("s3://")
    assert laboratory.verify(done)["model_version"] == "2"

    before = len(laboratory.made.controller.seen)
    back = champion.roll_back(MODEL, *laboratory.where(), reason="misses lot 17", by="operator-1")
    assert (back["version"], back["finished"], back["endpoint"]["version"]) == ("1", False, "1")
    # What has served before is gone back to at once.
    assert [percent for _, _, percent in laboratory.made.controller.seen[before:]] == [None]
    assert answering(back["endpoint"]["url"], png()) == "1"
    assert laboratory.told()[-2:] == [("rolled_back", "2"), ("deployed", "1")]
    last = next(laboratory.registry.audit.newest_first())
    assert last.details["endpoint"] == f"inferenceservice:{laboratory.made.rolling.namespace}/mscflow"


def test_a_release_that_fails_its_canary_loses_the_crown_and_the_log_says_why(
    laboratory: Laboratory, png: Callable[..., bytes]
) -> None:
    laboratory.release(favour=1)
    first = laboratory.deploy()
    laboratory.release(favour=2)
    laboratory.made.behaviour.broken = Everything(except_for=first["release"])
    with pytest.raises(DeploymentError, match=r"requests failed.*; version 1 serves on; champion is version 1"):
        laboratory.deploy()
    assert laboratory.registry.champion(MODEL).version == "1"
    assert answering(first["url"], png()) == "1"
    assert laboratory.told()[-2:] == [("withdrawn", "2"), ("rollout_failed", "2")]
    assert "a pod of this release fails" in next(laboratory.registry.audit.newest_first()).reason


def test_somebody_elses_deed_costs_no_crown(laboratory: Laboratory) -> None:
    laboratory.release(favour=1)
    laboratory.deploy()
    laboratory.release(favour=2)

    def delete(found: dict[str, Any]) -> None:
        if found["spec"]["predictor"].get("canaryTrafficPercent") == 20:
            laboratory.made.services.remove("mscflow")

    laboratory.made.controller.before_each = delete
    with pytest.raises(RolloutLost, match="was deleted"):
        laboratory.deploy()
    assert laboratory.registry.champion(MODEL).version == "2"
    assert laboratory.told()[-1] == ("rollout_failed", "2")


def test_pods_cannot_read_a_folder_of_this_machine(laboratory: Laboratory, tmp_path: Path) -> None:
    laboratory.release(favour=1)
    uri, home, serving, _, rolling = laboratory.where()
    with pytest.raises(InputError, match="is a folder, which the pods cannot read; give s3://"):
        steps.deploy(MODEL, "champion", uri, home, serving, str(tmp_path / "store"), rolling)
