"""Every change to a model, killed at each thing that it writes: to MLflow, and to the audit log."""

import shutil
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components import tracking
from components.audit.entry import Entry
from components.audit.log import AuditLog
from components.audit.verification import verify
from components.errors import MscflowError
from components.registry import journal, promotion
from components.registry.approval import approve
from components.registry.crown import rollback, settle, withdraw
from components.registry.promotion import Exam, promote
from components.registry.versions import ModelVersion, Registry
from components.settings import GateSettings
from components.storage import open_store

BundleOf = Callable[..., Path]
Action = Callable[[], object]

PERFECT = (1, 1, 2, 2, 3, 3, 4, 4)
GOOD = (1, 1, 2, 2, 3, 3, 4, 3)
FAIR = (1, 1, 2, 2, 3, 2, 4, 3)
GATE = GateSettings()
BY_HAND = GateSettings(policy="approval")


class Killed(BaseException):
    """Stands for a process that ends at once."""


class Fuse:
    """Counts the calls that change MLflow or the log, and ends the process before the given one."""

    CALLS = (
        "create_model_version",
        "set_registered_model_alias",
        "delete_registered_model_alias",
        "set_model_version_tag",
        "delete_model_version_tag",
        "log_artifact",
    )

    def __init__(self, registry: Registry, patch: pytest.MonkeyPatch, blows_at: int) -> None:
        self.left = blows_at
        client = tracking.client(registry.uri)
        for target, names in ((client, self.CALLS), (registry.audit.store, ("create",))):
            for name in names:
                patch.setattr(target, name, self._guarded(getattr(target, name)))

    def _guarded(self, call: Callable[..., object]) -> Callable[..., object]:
        def guarded(*args: object, **kwargs: object) -> object:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return call(*args, **kwargs)

        return guarded


class World:
    """A registry and its log, which can be put back to where they were."""

    def __init__(self, registry: Registry, name: str, database: Path) -> None:
        self.registry, self.name, self.database = registry, name, database
        self.log = registry.audit
        self.folder = Path(self.log.store.uri)

    def keep(self) -> None:
        self.bytes = self.database.read_bytes()
        shutil.rmtree(self.folder.with_name("kept"), ignore_errors=True)
        shutil.copytree(self.folder, self.folder.with_name("kept"))

    def restore(self) -> None:
        self.database.write_bytes(self.bytes)
        shutil.rmtree(self.folder / "audit")
        shutil.copytree(self.folder.with_name("kept") / "audit", self.folder / "audit")

    def models(self) -> list[tuple[object, ...]]:
        """What the registry says of the versions, but for what ties it to the log."""
        return [
            (each.version, each.aliases, each.digest, {tag: text for tag, text in each.tags.items() if plain(tag)})
            for each in self.registry.versions(self.name)
        ]

    def told(self) -> list[tuple[object, ...]]:
        """What the log says was done."""
        return [told(each) for each in self.log.entries() if each.action != "model.submitted"]

    def check_truth(self) -> None:
        """The log is whole, says each thing once, and its last word on the champion is so."""
        versions = self.registry.versions(self.name)
        assert verify(self.log, journal.anchors(versions)).sound
        entries = list(self.log.entries())
        assert len({each.id for each in entries}) == len(entries)
        said, champion = journal.last_crown(self.log, self.name), self.registry.champion(self.name)
        assert (said.details["champion"] if said else None) == (champion.version if champion else None)
        assert not [tag for each in versions for tag in each.tags if tag.startswith(journal.PENDING_TAG)]


def plain(tag: str) -> bool:
    return not tag.startswith((journal.ANCHOR_TAG, journal.PENDING_TAG))


def told(entry: Entry) -> tuple[object, ...]:
    return entry.action, entry.subject, entry.actor, entry.reason, entry.details.get("champion")


def kill_at_each_change(world: World, action: Action, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run an action from one state again and again, killed later each time; count the kills.

    After each, the next operation mends what was left; where the deed was not done, it is done anew. It must end
    where it would have without the kill, in the registry and in the log.
    """
    world.keep()
    kills = 0
    with monkeypatch.context() as patch:
        for module in ("crown", "verdicts", "approval"):
            patch.setattr(f"components.registry.{module}.datetime", FixedTime)
        action()
        models, entered = world.models(), world.told()
        while _killed(world, action, monkeypatch, kills):
            kills += 1
            settle(world.registry, world.name)
            world.check_truth()
            if world.models() != models:
                action()
                settle(world.registry, world.name)
            world.check_truth()
            assert world.models() == models
            assert _once(world.told()) == _once(entered)
    return kills


def _once(entries: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """A version that was judged, killed and judged again was judged twice; all else happens once."""
    return [each for each, next_ in zip(entries, [*entries[1:], None], strict=True) if each != next_]


def _killed(world: World, action: Action, monkeypatch: pytest.MonkeyPatch, number: int) -> bool:
    world.restore()
    with monkeypatch.context() as inner:
        Fuse(world.registry, inner, number)
        try:
            action()
        except Killed:
            return True
    return False


class FixedTime:
    @staticmethod
    def now(zone: object) -> object:
        from datetime import datetime

        return datetime(2026, 1, 1, tzinfo=zone)  # type: ignore[arg-type]


@pytest.fixture
def exam(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exam:
    """Whose verdict on the same two models is reached once: these tests judge again and again."""
    real, remembered = promotion._judged, {}

    def judged(registry: Registry, challenger: ModelVersion, champion: ModelVersion | None, *more: Any) -> Any:
        key = (challenger.digest, champion.digest if champion else None)
        if key not in remembered:
            remembered[key] = real(registry, challenger, champion, *more)
        return replace(remembered[key], challenger=challenger, champion=champion)

    monkeypatch.setattr(promotion, "_judged", judged)
    return Exam(str(data.store), data.first_split, tmp_path / "home")


@pytest.fixture
def world(sqlite_uri: str, tmp_path: Path, model_name: str) -> World:
    log = AuditLog(open_store(tmp_path / "log"))
    return World(Registry(sqlite_uri, tmp_path / "home", log), model_name, tmp_path / "home" / "mlflow.db")


@pytest.fixture
def make_champion(world: World, exam: Exam) -> Callable[[Path], ModelVersion]:
    def make(bundle: Path) -> ModelVersion:
        version = world.registry.register(bundle).version
        assert promote(world.registry, version.name, version.version, exam, GATE).passed
        return version

    return make


@pytest.mark.slow
def test_a_promotion(world: World, make_champion: Any, bundle_of: BundleOf, exam: Exam, monkeypatch: Any):
    make_champion(bundle_of(FAIR))
    make_champion(bundle_of(GOOD))
    world.registry.register(bundle_of(PERFECT))
    action = lambda: promote(world.registry, world.name, "3", exam, GATE)  # noqa: E731
    assert kill_at_each_change(world, action, monkeypatch) > 5


def test_a_verdict_that_waits_for_a_person(
    world: World, make_champion: Any, bundle_of: BundleOf, exam: Exam, monkeypatch: Any
):
    make_champion(bundle_of(GOOD))
    world.registry.register(bundle_of(PERFECT))
    action = lambda: promote(world.registry, world.name, "2", exam, BY_HAND)  # noqa: E731
    assert kill_at_each_change(world, action, monkeypatch) > 5


def test_an_approval(world: World, make_champion: Any, bundle_of: BundleOf, exam: Exam, monkeypatch: Any):
    make_champion(bundle_of(GOOD))
    world.registry.register(bundle_of(PERFECT))
    promote(world.registry, world.name, "2", exam, BY_HAND)
    action = lambda: approve(world.registry, world.name, "2", reason="seen", home=exam.home, by="operator-1")  # noqa: E731
    assert kill_at_each_change(world, action, monkeypatch) > 5


def test_a_rollback(world: World, make_champion: Any, bundle_of: BundleOf, monkeypatch: Any):
    for answers in (FAIR, GOOD, PERFECT):
        make_champion(bundle_of(answers))
    action = lambda: rollback(world.registry, world.name, "bad", "operator-1")  # noqa: E731
    assert kill_at_each_change(world, action, monkeypatch) > 5


def test_a_withdrawal_that_leaves_no_champion(world: World, make_champion: Any, bundle_of: BundleOf, monkeypatch: Any):
    make_champion(bundle_of(GOOD))
    action = lambda: withdraw(world.registry, world.name, "1", "does not load")  # noqa: E731
    assert kill_at_each_change(world, action, monkeypatch) > 5


def test_a_registration(world: World, bundle_of: BundleOf, monkeypatch: Any):
    world.registry.register(bundle_of(GOOD))
    action = lambda: world.registry.register(bundle_of(PERFECT))  # noqa: E731
    assert kill_at_each_change(world, action, monkeypatch) > 5


class FarApart(Registry):
    """A registry used from two machines, which share no lock."""

    def lock(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.mark.slow
def test_two_machines_that_promote_at_once_leave_one_champion_and_a_truthful_log(
    world: World, make_champion: Any, bundle_of: BundleOf, exam: Exam
):
    make_champion(bundle_of(FAIR))
    for answers in (GOOD, PERFECT):
        world.registry.register(bundle_of(answers))
    ready = threading.Barrier(2)
    failures: list[Exception] = []

    def race(version: str) -> None:
        machine = FarApart(world.registry.uri, None, AuditLog(open_store(world.log.store.uri)))
        ready.wait()
        try:
            promote(machine, world.name, version, exam, GATE)
        except MscflowError as error:
            failures.append(error)

    racers = [threading.Thread(target=race, args=(version,)) for version in ("2", "3")]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert not failures
    champion = settle(world.registry, world.name)
    assert champion is not None
    assert champion.version in {"2", "3"}
    world.check_truth()
    promoted = [each.subject for each in world.log.entries() if each.action == "model.promoted"]
    assert f"{world.name}/{champion.version}" in promoted
