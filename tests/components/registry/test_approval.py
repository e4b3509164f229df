import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components import tracking
from components.audit.log import AuditLog
from components.errors import GateRefused, InputError, IntegrityError
from components.registry.approval import approve
from components.registry.crown import rollback
from components.registry.promotion import Exam, Promotion, promote
from components.registry.verdicts import Override, notes, read_verdict
from components.registry.versions import Registry
from components.settings import GateSettings
from components.storage import open_store

BundleOf = Callable[..., Path]

PERFECT = (1, 1, 2, 2, 3, 3, 4, 4)
GOOD = (1, 1, 2, 2, 3, 3, 4, 3)
FAIR = (1, 1, 2, 2, 3, 2, 4, 3)
BY_HAND = GateSettings(policy="approval")
AUTO = GateSettings()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def registry(sqlite_uri: str, home: Path, tmp_path: Path) -> Registry:
    return Registry(sqlite_uri, home, AuditLog(open_store(tmp_path / "log")))


@pytest.fixture
def submit(registry: Registry, bundle_of: BundleOf, data: Any, home: Path) -> Callable[..., Promotion]:
    """Registers a model and has it judged."""

    def make(answers: tuple[int, ...], settings: GateSettings = BY_HAND, **about: Any) -> Promotion:
        version = registry.register(bundle_of(answers, **about)).version
        exam = Exam(str(data.store), data.first_split, home)
        return promote(registry, version.name, version.version, exam, settings)

    return make


def champion(registry: Registry, name: str) -> str | None:
    found = registry.champion(name)
    return found.version if found else None


def test_what_passed_waits_until_a_named_person_approves_it(
    registry: Registry, submit: Any, model_name: str, home: Path
) -> None:
    done = submit(GOOD)
    assert (done.passed, done.awaits_approval, done.champion) == (False, True, None)
    assert "models approve" in done.reasons[0]
    assert champion(registry, model_name) is None
    approved = approve(registry, model_name, "challenger", reason="evidence read", by="operator-1", home=home)
    assert (approved.version, champion(registry, model_name)) == ("1", "1")
    assert notes(approved, read_verdict(registry, approved))[0].endswith("by operator-1: evidence read")
    entry = next(each for each in registry.audit.newest_first() if each.action == "model.approved")
    assert (entry.actor, entry.reason, entry.subject) == ("operator-1", "evidence read", f"{model_name}/1")
    assert (entry.details["digest"], entry.details["meaning"]) == (approved.digest, "approval of the release")
    judged = next(each for each in registry.audit.entries() if each.action == "model.judged")
    assert entry.details["verdict"] == judged.details["verdict"]


def test_criteria_are_entered_before_the_verdict(registry: Registry, submit: Any) -> None:
    submit(GOOD)
    actions = [each.action for each in registry.audit.entries()]
    assert actions == ["model.registered", "model.submitted", "model.judged"]
    submitted = list(registry.audit.entries())[1]
    assert submitted.details["criteria"] == BY_HAND.model_dump(mode="json")


def test_an_approval_needs_a_reason_and_something_to_approve(
    registry: Registry, submit: Any, model_name: str, home: Path
) -> None:
    submit(GOOD)
    with pytest.raises(InputError, match="needs a reason"):
        approve(registry, model_name, "1", reason=" ", home=home)
    approve(registry, model_name, "1", reason="seen", home=home)
    with pytest.raises(InputError, match="does not wait for approval"):
        approve(registry, model_name, "1", reason="seen", home=home)


def test_what_the_gate_refused_cannot_be_approved(registry: Registry, submit: Any, model_name: str, home: Path) -> None:
    submit(GOOD, AUTO)
    assert not submit(FAIR).awaits_approval
    with pytest.raises(GateRefused, match="the gate refused"):
        approve(registry, model_name, "2", reason="seen", home=home)
    assert champion(registry, model_name) == "1"


def test_what_was_judged_against_another_champion_cannot_be_approved(
    registry: Registry, submit: Any, model_name: str, home: Path
) -> None:
    submit(FAIR, AUTO)
    submit(GOOD)
    submit(PERFECT, AUTO)
    with pytest.raises(GateRefused, match="judged against version 1, but the champion is version 3"):
        approve(registry, model_name, "2", reason="seen", home=home)
    assert champion(registry, model_name) == "3"


def test_a_version_that_was_rolled_back_needs_a_new_verdict(
    registry: Registry, submit: Any, model_name: str, home: Path
) -> None:
    submit(FAIR, AUTO)
    submit(GOOD)
    approve(registry, model_name, "2", reason="seen", home=home)
    rollback(registry, model_name, "bad")
    with pytest.raises(InputError, match="does not wait for approval"):
        approve(registry, model_name, "2", reason="seen", home=home)
    assert champion(registry, model_name) == "1"


@pytest.mark.parametrize("what", ["bundle", "digest", "verdict", "both"])
def test_other_digests_than_those_judged_are_not_released(
    registry: Registry, submit: Any, model_name: str, home: Path, bundle_of: BundleOf, what: str, tmp_path: Path
) -> None:
    submit(GOOD)
    version = registry.show(model_name, "1")
    client = tracking.client(registry.uri)
    other = registry.register(bundle_of(FAIR)).version
    if what == "bundle":
        client.log_artifact(version.run_id, str(bundle_of(FAIR) / "model.onnx"), version.source.rpartition("/")[2])
        import shutil

        shutil.rmtree(home / "models")
    if what in {"digest", "both"}:
        client.set_model_version_tag(model_name, "1", "digest", other.digest)
    if what in {"verdict", "both"}:
        path = version.tags["verdict"]
        record = read_verdict(registry, version)
        assert record is not None
        forged = tmp_path / "verdict.json"
        forged.write_text(json.dumps(record | {"challenger": other.digest}))
        client.log_artifact(version.run_id, str(forged), path.rpartition("/")[0])
    with pytest.raises(IntegrityError):
        approve(registry, model_name, "1", reason="seen", home=home)
    assert champion(registry, model_name) is None


def test_a_verdict_that_no_entry_vouches_for_is_not_released(
    registry: Registry, submit: Any, model_name: str, home: Path
) -> None:
    submit(GOOD)
    place = next(each.sequence for each in registry.audit.entries() if each.action == "model.judged")
    registry.audit.store.delete(f"audit/{place:08}.json")
    with pytest.raises(IntegrityError, match="the audit log tells of none"):
        approve(registry, model_name, "1", reason="seen", home=home)


def test_a_person_who_overrides_the_gate_releases_at_once(
    registry: Registry, submit: Any, model_name: str, data: Any, home: Path
) -> None:
    submit(GOOD, AUTO)
    submit(FAIR)
    exam = Exam(str(data.store), data.first_split, home)
    done = promote(registry, model_name, "2", exam, BY_HAND, Override("the camera is new", "operator-1"))
    assert (done.passed, done.forced) == (True, True)
    entry = next(registry.audit.newest_first())
    assert (entry.action, entry.actor, entry.reason) == ("model.promoted", "operator-1", "the camera is new")
