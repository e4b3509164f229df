import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.audit.log import AuditLog
from components.audit.verification import verify
from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.errors import InputError, IntegrityError, RegistryError
from components.evaluation.judging import AnyScored
from components.registry import journal, verdicts
from components.registry.crown import rollback, withdraw
from components.registry.promotion import Exam, promote
from components.registry.verdicts import Override
from components.registry.versions import ModelVersion, Registry
from components.settings import GateSettings
from components.storage import open_store

BundleOf = Callable[..., Path]

PERFECT = (1, 1, 2, 2, 3, 3, 4, 4)
GOOD = (1, 1, 2, 2, 3, 3, 4, 3)  # an eighth wrong
FAIR = (1, 1, 2, 2, 3, 2, 4, 3)
POOR = (1, 1, 1, 1, 1, 1, 1, 1)
GATE = GateSettings()


@pytest.fixture
def exam(data: Any, tmp_path: Path) -> Exam:
    return Exam(str(data.store), data.first_split, tmp_path / "home")


@pytest.fixture
def registry(mlflow_uri: str, tmp_path: Path) -> Registry:
    return Registry(mlflow_uri, tmp_path / "home", AuditLog(open_store(tmp_path / "log")))


@pytest.fixture
def local(sqlite_uri: str, tmp_path: Path) -> Registry:
    return Registry(sqlite_uri, tmp_path / "home", AuditLog(open_store(tmp_path / "log")))


def state(registry: Registry, name: str) -> dict[str, str]:
    return {alias: each.version for each in registry.versions(name) for alias in each.aliases}


def make_champion(registry: Registry, bundle: Path, exam: Exam) -> ModelVersion:
    version = registry.register(bundle).version
    assert promote(registry, version.name, version.version, exam, GATE).passed
    return version


def test_the_first_champion_has_no_predecessor(
    registry: Registry, bundle_of: BundleOf, model_name: str, exam: Exam, data: Any
):
    registry.register(bundle_of(GOOD))
    done = promote(registry, model_name, "challenger", exam, GATE)
    assert (done.passed, done.reasons, done.champion, done.previous) == (True, (), "1", None)
    assert state(registry, model_name) == {"champion": "1"}
    figures = {rule.name: rule.figure for rule in done.rules}
    assert figures["accuracy"] == 7 / 8  # the network errs on one grey of eight, on the images of the split
    assert figures["not worse than the champion"] is None
    version = registry.show(model_name, "1")
    record = verdicts.read_verdict(registry, version)
    assert record is not None
    assert (version.gate, record["passed"], record["champion_version"]) == ("passed", True, None)
    parts = load_split(DataRepository(open_store(data.store)), data.first_split)
    assert record["n"] == len(parts["test"])
    assert record["split_id"] == data.first_split
    assert verdicts.as_verdict(record).challenger == version.digest


def test_a_better_challenger_takes_over(registry: Registry, bundle_of: BundleOf, model_name: str, exam: Exam):
    make_champion(registry, bundle_of(FAIR), exam)
    registry.register(bundle_of(PERFECT))
    assert state(registry, model_name) == {"champion": "1", "challenger": "2"}
    done = promote(registry, model_name, "2", exam, GATE)
    assert (done.passed, done.champion, done.previous) == (True, "2", "1")
    (difference,) = (rule for rule in done.rules if rule.name == "not worse than the champion")
    assert difference.figure == pytest.approx(2 / 8)
    assert state(registry, model_name) == {"champion": "2", "previous": "1"}
    assert registry.show(model_name, "2").tags["judged_against"] == "1"


def test_a_worse_challenger_stays_one(registry: Registry, bundle_of: BundleOf, model_name: str, exam: Exam):
    make_champion(registry, bundle_of(GOOD), exam)
    registry.register(bundle_of(FAIR))
    done = promote(registry, model_name, "2", exam, GATE)
    assert (done.passed, done.champion, done.previous) == (False, "1", None)
    assert "12.5 points below the champion's" in done.reasons[0]
    assert state(registry, model_name) == {"champion": "1", "challenger": "2"}
    refused = registry.show(model_name, "2")
    assert refused.gate == "refused"
    assert refused.tags["gate_reasons"] == "; ".join(done.reasons)


def test_floors_hold_without_a_champion(local: Registry, bundle_of: BundleOf, model_name: str, exam: Exam):
    local.register(bundle_of(POOR))
    done = promote(local, model_name, "1", exam, GATE)
    assert not done.passed
    assert state(local, model_name) == {"challenger": "1"}


def test_an_equal_model_may_take_over(local: Registry, bundle_of: BundleOf, model_name: str, exam: Exam):
    make_champion(local, bundle_of(GOOD), exam)
    local.register(bundle_of(GOOD, note="retrained"))
    assert promote(local, model_name, "2", exam, GATE).passed


def test_the_champion_passes_without_being_judged_again(
    local: Registry, bundle_of: BundleOf, model_name: str, exam: Exam
):
    make_champion(local, bundle_of(FAIR), exam)
    make_champion(local, bundle_of(GOOD), exam)
    before = local.versions(model_name)
    done = promote(local, model_name, "champion", exam, GateSettings(min_accuracy=1))
    assert (done.passed, done.reasons, done.rules) == (True, ("version 2 is the champion already",), ())
    assert (done.champion, done.previous) == ("2", "1")
    assert local.versions(model_name) == before


def test_both_are_judged_on_the_images_of_the_given_split(
    local: Registry, bundle_of: BundleOf, model_name: str, exam: Exam, data: Any
):
    make_champion(local, bundle_of(GOOD, data_version=data.first, split_id=data.first_split), exam)
    local.register(bundle_of(PERFECT, data_version=data.second, split_id=data.second_split))
    later = Exam(exam.store_uri, data.second_split, exam.home)
    assert promote(local, model_name, "2", later, GATE).passed
    record = verdicts.read_verdict(local, local.show(model_name, "2"))
    assert record is not None
    repository = DataRepository(open_store(data.store))
    before, after = (load_split(repository, split)["test"] for split in (data.first_split, data.second_split))
    assert record["n"] == len(after) > len(before)
    assert record["champion_data_version"] == data.first


def test_an_altered_challenger_is_refused(local: Registry, bundle_of: BundleOf, model_name: str, exam: Exam):
    make_champion(local, bundle_of(GOOD), exam)
    version = local.register(bundle_of(FAIR)).version
    alter(version, bundle_of(PERFECT) / "model.onnx")
    with pytest.raises(IntegrityError, match=r"model\.onnx has digest"):
        promote(local, model_name, "2", exam, GATE, Override("I know better"))
    assert state(local, model_name) == {"champion": "1", "challenger": "2"}


def alter(version: ModelVersion, model: Path) -> None:
    target = Path(version.source.removeprefix("file://")) / "model.onnx"
    assert target.read_bytes() != model.read_bytes()
    shutil.copyfile(model, target)


def test_a_broken_champion_is_named_and_can_be_overridden(
    local: Registry, bundle_of: BundleOf, model_name: str, exam: Exam, tmp_path: Path
):
    champion = make_champion(local, bundle_of(GOOD), exam)
    local.register(bundle_of(PERFECT))
    shutil.rmtree(champion.source.removeprefix("file://"))
    shutil.rmtree(exam.home / "models")
    with pytest.raises(RegistryError, match="cannot be compared with the champion, version 1"):
        promote(local, model_name, "2", exam, GATE)
    done = promote(local, model_name, "2", exam, GATE, Override("the champion's files are lost", by="Ada"))
    assert (done.passed, done.forced, done.champion) == (True, True, "2")
    record = verdicts.read_verdict(local, local.show(model_name, "2"))
    assert record is not None
    assert "version 1, is broken" in record["champion_not_judged"]
    assert record["override"] == {"reason": "the champion's files are lost", "by": "Ada"}


def test_a_person_may_promote_past_the_gate_and_it_is_kept(
    registry: Registry, bundle_of: BundleOf, model_name: str, exam: Exam
):
    make_champion(registry, bundle_of(GOOD), exam)
    registry.register(bundle_of(FAIR))
    done = promote(registry, model_name, "2", exam, GATE, Override("needed for the audit", by="Ada"))
    assert (done.passed, done.forced, done.champion, done.previous) == (True, True, "2", "1")
    assert done.reasons
    version = registry.show(model_name, "2")
    record = verdicts.read_verdict(registry, version)
    assert record is not None
    assert (version.gate, version.tags["gate_forced"]) == ("forced", "Ada: needed for the audit")
    assert (record["passed"], record["override"]) == (False, {"reason": "needed for the audit", "by": "Ada"})


def test_an_override_needs_a_reason():
    with pytest.raises(InputError, match="needs a reason"):
        Override("  ")


def test_every_verdict_is_kept(local: Registry, bundle_of: BundleOf, model_name: str, exam: Exam):
    version = local.register(bundle_of(GOOD)).version
    promote(local, model_name, "1", exam, GateSettings(min_accuracy=1))
    first = local.show(model_name, "1").tags["verdict"]
    promote(local, model_name, "1", exam, GATE)
    assert json.loads(local.read_file(version, first))["passed"] is False
    record = verdicts.read_verdict(local, local.show(model_name, "1"))
    assert record is not None
    assert record["passed"] is True
    assert "gate_reasons" not in local.show(model_name, "1").tags


def test_a_rollback_returns_to_the_previous_champion(
    registry: Registry, bundle_of: BundleOf, model_name: str, exam: Exam
):
    for answers in (FAIR, GOOD, PERFECT):
        make_champion(registry, bundle_of(answers), exam)
    assert rollback(registry, model_name, "wrong at night", by="Ada").version == "2"
    assert state(registry, model_name) == {"champion": "2", "previous": "1"}
    note = json.loads(registry.show(model_name, "3").tags["rolled_back"])
    assert (note["reason"], note["by"], note["to"]) == ("wrong at night", "Ada", "2")
    assert rollback(registry, model_name, "this too").version == "1"
    assert state(registry, model_name) == {"champion": "1"}
    with pytest.raises(InputError, match=r"version 1 of .* has no predecessor"):
        rollback(registry, model_name, "once more")


def test_a_rollback_skips_nothing_that_was_rolled_back_itself(
    local: Registry, bundle_of: BundleOf, model_name: str, exam: Exam
):
    make_champion(local, bundle_of(FAIR), exam)
    make_champion(local, bundle_of(GOOD), exam)
    rollback(local, model_name, "bad")
    assert promote(local, model_name, "2", exam, GATE).passed  # promoted anew, it counts again
    make_champion(local, bundle_of(PERFECT), exam)
    assert rollback(local, model_name, "bad").version == "2"
    assert rollback(local, model_name, "bad").version == "1"


def test_rolling_back_nothing_says_so(local: Registry, bundle_of: BundleOf, model_name: str):
    with pytest.raises(InputError, match=f"holds no model '{model_name}'"):
        rollback(local, model_name, "why not")
    local.register(bundle_of(GOOD))
    with pytest.raises(InputError, match="has no champion to roll back"):
        rollback(local, model_name, "why not")


def test_a_version_that_did_not_serve_is_withdrawn(local: Registry, bundle_of: BundleOf, model_name: str, exam: Exam):
    make_champion(local, bundle_of(FAIR), exam)
    make_champion(local, bundle_of(GOOD), exam)
    champion = withdraw(local, model_name, "2", "did not answer")
    assert champion is not None
    assert champion.version == "1"
    assert withdraw(local, model_name, "2", "did not answer") == champion
    assert withdraw(local, model_name, "1", "did not answer") is None
    assert state(local, model_name) == {}
    assert promote(local, model_name, "2", exam, GATE).champion == "2"


def test_two_promotions_at_once_end_in_one_champion(
    registry: Registry, bundle_of: BundleOf, model_name: str, exam: Exam
):
    make_champion(registry, bundle_of(FAIR), exam)
    for note in ("a", "b"):
        registry.register(bundle_of(GOOD, note=note))
    ready = threading.Barrier(2)
    done = {}

    def race(version: str) -> None:
        ready.wait()
        done[version] = promote(registry, model_name, version, exam, GATE)

    racers = [threading.Thread(target=race, args=(version,)) for version in ("2", "3")]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert done["2"].passed
    assert done["3"].passed
    now = state(registry, model_name)
    # Equal models take turns: the last one is champion and names the one that it replaced.
    assert (now["champion"], now["previous"]) in {("2", "3"), ("3", "2")}
    assert registry.show(model_name, now["previous"]).tags["judged_against"] == "1"
    assert registry.show(model_name, now["champion"]).tags["judged_against"] == now["previous"]
    check_log(registry, model_name, ["promoted", "promoted", "promoted"])


def check_log(registry: Registry, name: str, crowned: list[str]) -> None:
    """The log is whole, its last word on the champion is so, and it tells of as many changes as there were."""
    assert verify(registry.audit, journal.anchors(registry.versions(name))).sound
    entries = [each for each in registry.audit.entries() if "champion" in each.details]
    assert [each.action.removeprefix("model.") for each in entries] == crowned
    assert entries[-1].details["champion"] == registry.champion(name).version


@dataclass(frozen=True)
class SlowExam(Exam):
    """Before its first score is out, something happens elsewhere."""

    meanwhile: Callable[[], object] | None = None

    def score(self, registry: Registry, version: ModelVersion, rival: AnyScored | None = None) -> AnyScored:
        marker = self.home / "happened"
        if self.meanwhile is not None and not marker.exists():
            marker.touch()
            self.meanwhile()
        return super().score(registry, version, rival)


@pytest.mark.slow
def test_a_champion_that_another_machine_made_meanwhile_is_judged_against(
    mlflow_server: str, bundle_of: BundleOf, model_name: str, exam: Exam, tmp_path: Path
):
    log = AuditLog(open_store(tmp_path / "log"))
    here, there = Registry(mlflow_server, tmp_path / "home", log), Registry(mlflow_server, tmp_path / "there", log)
    make_champion(here, bundle_of(FAIR), exam)
    here.register(bundle_of(GOOD))
    here.register(bundle_of(PERFECT))
    slow = SlowExam(
        exam.store_uri, exam.split_id, exam.home, meanwhile=lambda: promote(there, model_name, "3", exam, GATE)
    )
    done = promote(here, model_name, "2", slow, GATE)
    assert (done.passed, done.champion, done.previous) == (False, "3", "1")
    assert here.show(model_name, "2").tags["judged_against"] == "3"
    check_log(here, model_name, ["promoted", "promoted"])
