"""How a run on a cluster ended: what the ledger, the audit log and the tracking server are told."""

import pytest

from components import tracking
from components.audit.log import AuditLog
from components.batches.holder import holder
from components.batches.ledger import Ledger
from components.batches.steps import poll
from components.ending.steps import Ended, conclude_left, tell
from components.errors import RegistryUnavailable
from components.events import step
from components.failure import Failure, leave_word
from components.patience import RUN_VARIABLE
from components.storage import open_store


@pytest.fixture
def store(tmp_path, monkeypatch):
    uri = str(tmp_path / "store")
    monkeypatch.setenv("MSCFLOW_STORE", uri)
    monkeypatch.setenv(RUN_VARIABLE, "run-1")
    return uri


@pytest.fixture
def ask(tmp_path, png, store):
    """Polls as a step of this run does; there is one batch."""
    batch = tmp_path / "incoming" / "b1"
    batch.mkdir(parents=True)
    (batch / "1.png").write_bytes(png(1))
    (batch / "_COMPLETE").touch()
    return lambda owner: poll("", str(batch), store, "line", tmp_path, holder(owner), 600)


def ended(store, state="FAILED", message=""):
    return Ended.of(state, message, store)


def left(store, state="FAILED"):
    return conclude_left(ended(store, state), store, "line", "operator-1")


@pytest.mark.parametrize(
    ("error", "exit_code", "again"),
    [("DataError", 2, False), ("RegistryUnavailable", 2, True), ("TrainingError", 1, True), ("bug", 1, True)],
)
def test_a_batch_is_due_again_unless_it_was_itself_at_fault(ask, store, error, exit_code, again, monkeypatch):
    assert ask("operator-1")["found"]
    leave_word(Failure(step="screen", message="a sentence", error=error, exit_code=exit_code))
    assert left(store)["reasons"] == ["step 'screen': a sentence"]
    monkeypatch.setenv(RUN_VARIABLE, "run-2")
    found = ask("operator-1")
    assert (found["found"], found.get("attempt")) == (again, 2 if again else None)
    (told,) = AuditLog(open_store(store)).entries()
    assert (told.action, told.subject, told.actor) == ("run.failed", "line/b1", "operator-1 (run run-1)")


def test_a_step_that_was_killed_left_no_word_and_its_batch_is_due_again(ask, store, monkeypatch):
    ask("operator-1")
    assert "without a word" in left(store)["reasons"][0]
    monkeypatch.setenv(RUN_VARIABLE, "run-2")
    assert ask("operator-1")["attempt"] == 2


def test_a_cancelled_runs_batch_is_as_if_it_had_never_been_claimed(ask, store, monkeypatch):
    ask("operator-1")
    assert left(store, "CANCELLED")["ended"] == "cancelled"
    monkeypatch.setenv(RUN_VARIABLE, "run-2")
    assert ask("operator-1")["attempt"] == 1
    assert not list(AuditLog(open_store(store)).entries())


def test_another_run_of_the_same_owner_keeps_its_batch(ask, store, monkeypatch):
    ask("operator-1")
    monkeypatch.setenv(RUN_VARIABLE, "run-2")
    assert not ask("operator-1")["found"]
    assert left(store) is None
    assert Ledger(open_store(store), "line").turn().owner == "operator-1 (run run-1)"


def test_a_run_that_concluded_its_batch_leaves_none(ask, store):
    batch_id = ask("operator-1")["id"]
    Ledger(open_store(store), "line").conclude(batch_id, holder("operator-1"), {"ended": "released"}, None)
    assert left(store, "SUCCEEDED") is None


def test_what_another_run_left_word_of_is_not_told(store, monkeypatch):
    leave_word(Failure(step="train", message="diverged", error="TrainingError", exit_code=1))
    monkeypatch.setenv(RUN_VARIABLE, "run-2")
    assert ended(store, message="KFP's own words").reason == "KFP's own words"


def test_a_step_takes_its_word_back_when_it_succeeds_and_leaves_anothers(store):
    with pytest.raises(SystemExit), step("search"):
        raise RegistryUnavailable("MLflow is away")
    with step("train"):
        pass
    assert ended(store).reason == "step 'search': MLflow is away"
    with step("search"):
        pass
    assert "without a word" in ended(store).reason


def test_a_step_that_succeeded_when_tried_again_is_not_why_a_run_ended(store):
    leave_word(Failure(step="train", message="diverged", error="TrainingError", exit_code=1))
    assert ended(store, "SUCCEEDED") == Ended("SUCCEEDED")


def test_a_run_that_kfp_still_calls_running_is_told_as_what_its_failed_step_said(store):
    assert "called it RUNNING" in ended(store, "RUNNING").reason
    leave_word(Failure(step="train", message="diverged", error="TrainingError", exit_code=1))
    assert (ended(store, "RUNNING").state, ended(store, "RUNNING").reason) == ("FAILED", "step 'train': diverged")


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("SUCCEEDED", "FINISHED"),
        ("COMPLETE", "FINISHED"),
        ("CACHED", "FINISHED"),
        ("FAILED", "FAILED"),
        ("CANCELLED", "KILLED"),
        ("CANCELED", "KILLED"),
        ("RUNNING", "FAILED"),
    ],
)
def test_the_tracked_run_ends_as_the_run_did(sqlite_uri, store, monkeypatch, state, status):
    monkeypatch.setenv(RUN_VARIABLE, f"run-{state}")
    tell(ended(store, state, "why"), sqlite_uri)
    run = tracking.client(sqlite_uri).get_run(tracking.parent_run(sqlite_uri))
    assert run.info.status == status
    assert run.data.tags.get("mscflow.ended") == (None if status == "FINISHED" else "why")


def test_outside_of_a_cluster_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("MSCFLOW_STORE", str(tmp_path))
    monkeypatch.delenv(RUN_VARIABLE, raising=False)
    leave_word(Failure(step="train", message="diverged", error="TrainingError", exit_code=1))
    assert not list(tmp_path.iterdir())
