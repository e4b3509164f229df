"""What a rollout leaves in the audit log, and a rollback that takes the endpoint along."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.audit.log import AuditLog
from components.audit.verification import verify
from components.bundle import KnownAnswer
from components.deployment import champion, local, rollouts, steps
from components.endpoint.files import read_desired
from components.errors import InputError, UnfitModel
from components.registry import journal
from components.registry.crown import crown
from components.registry.versions import Registry
from components.settings import ServingSettings
from components.storage import open_store

MODEL = "confluence-single-stack"
WRONG = KnownAnswer(probabilities=(0.7, 0.1, 0.1, 0.1))


class Killed(BaseException):
    """Stands for a process that ends at once."""


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(open_store(tmp_path / "store"))


@pytest.fixture
def registry(sqlite_uri: str, home: Path, log: AuditLog) -> Registry:
    return Registry(sqlite_uri, home, log)


@pytest.fixture
def release(registry: Registry, tmp_path: Path, make_bundle: Callable[..., str]) -> Callable[..., str]:
    """Registers a tiny bundle and makes it the champion, as a promotion does."""

    def make(**options: Any) -> str:
        make_bundle(tmp_path / "trained", **options)
        version = registry.register(tmp_path / "trained").version
        crown(registry, version, registry.champion(MODEL), "model.promoted")
        return version.version

    return make


@pytest.fixture
def deploy(registry: Registry, home: Path, free_ports: ServingSettings) -> Callable[[], dict[str, Any]]:
    return lambda: steps.deploy(MODEL, "champion", registry.uri, home, free_ports, registry.audit.store.uri)


@pytest.fixture
def roll_back(registry: Registry, home: Path, free_ports: ServingSettings) -> Callable[..., dict[str, Any]]:
    where = (MODEL, registry.uri, home, free_ports, registry.audit.store.uri)
    return lambda **about: champion.roll_back(*where, **{"reason": "bad", "by": "operator-1"} | about)


def told(log: AuditLog) -> list[tuple[str, str]]:
    return [(each.action.removeprefix("model."), each.subject.rpartition("/")[2]) for each in log.entries()]


def test_each_rollout_is_entered_and_a_rollback_takes_the_endpoint_along(
    registry: Registry, home: Path, log: AuditLog, release: Any, deploy: Any, roll_back: Any
) -> None:
    release(favour=1)
    deploy()
    deploy()  # nothing changed, and nothing is told
    release(favour=2)
    deploy()
    release(favour=3, known=WRONG)
    with pytest.raises(UnfitModel):
        deploy()
    done = roll_back()
    assert (done["version"], done["finished"], done["endpoint"]["version"]) == ("1", False, "1")
    assert read_desired(home / "endpoint").models[MODEL].version == "1"
    assert told(log) == [
        *[("registered", "1"), ("promoted", "1"), ("deployed", "1")],
        *[("registered", "2"), ("promoted", "2"), ("deployed", "2")],
        *[("registered", "3"), ("promoted", "3"), ("withdrawn", "3"), ("rollout_failed", "3")],
        *[("rolled_back", "2"), ("deployed", "1")],
    ]
    last = next(log.newest_first())
    assert (last.details["before"], last.details["url"]) == ("2", done["endpoint"]["url"])
    failed = next(each for each in log.newest_first() if each.action == "model.rollout_failed")
    assert "cannot serve" in failed.reason
    assert verify(log, journal.anchors(registry.versions(MODEL))).sound


@pytest.mark.slow
def test_a_rollback_cut_off_before_the_endpoint_followed_is_finished_not_repeated(
    registry: Registry, home: Path, release: Any, deploy: Any, roll_back: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for favour in (1, 2, 3):
        release(favour=favour)
    deploy()

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(champion, "serve_champion", killed)
        roll_back()
    assert read_desired(home / "endpoint").models[MODEL].version == "3"
    done = roll_back()
    assert (done["version"], done["finished"], done["endpoint"]["version"]) == ("2", True, "2")
    assert roll_back()["version"] == "1"
    with pytest.raises(InputError, match="no predecessor"):
        roll_back()


@pytest.mark.slow
def test_a_rollout_cut_off_before_it_was_entered_is_told_by_the_next(
    log: AuditLog, release: Any, deploy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(favour=1)
    deploy()
    release(favour=2)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(rollouts, "tell", killed)
        deploy()
    deploy()
    deploy()
    assert told(log)[-2:] == [("promoted", "2"), ("reconciled", "2")]
    entry = next(log.newest_first())
    assert f"left {MODEL}/1 serving, but the endpoint was asked for version 2" in entry.reason


def test_without_an_endpoint_a_rollback_is_the_registry_s_alone(home: Path, release: Any, roll_back: Any) -> None:
    for favour in (1, 2):
        release(favour=favour)
    assert roll_back()["endpoint"] is None
    assert local.status(home) == {"running": False}
