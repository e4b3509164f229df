import pytest

from components.audit.log import AuditLog
from components.batches.ledger import Ledger
from components.batches.outcome import conclude, conclude_failed, outcome
from components.batches.steps import poll
from components.errors import ConflictError, is_outage
from components.storage import open_store

SCREENED = {"screen": {"verdict": "admitted", "reasons": [], "drift": {"drifted": True}}, "intake": {"images": 24}}
JUDGED = {**SCREENED, "register": {"name": "m", "version": "7", "digest": "d" * 64}}


@pytest.mark.parametrize(
    ("results", "ended", "reasons"),
    [
        ({"screen": {"verdict": "stopped", "reasons": ["labels"], "drift": None}}, "stopped", ["labels"]),
        ({"screen": {"verdict": "queued", "reasons": ["no label"]}}, "queued", ["no label"]),
        ({**JUDGED, "promote": {"passed": False, "reasons": ["worse"]}}, "refused", ["worse"]),
        (
            {**JUDGED, "promote": {"passed": False, "awaits_approval": True, "reasons": ["waits"]}},
            "waiting for approval",
            ["waits"],
        ),
        ({**JUDGED, "promote": {"passed": True, "reasons": []}, "deploy": {"url": "u"}}, "released", []),
    ],
)
def test_a_batch_ends_in_a_word_and_its_reasons(results, ended, reasons):
    came = outcome(results)
    assert (came["ended"], came["reasons"]) == (ended, reasons)


def test_what_is_not_known_is_left_out():
    came = outcome(JUDGED | {"promote": {"passed": True, "reasons": []}, "deploy": {"url": "u"}})
    assert came == {
        "ended": "released",
        "reasons": [],
        "images": 24,
        "drifted": True,
        "model": "m",
        "version": "7",
        "digest": "d" * 64,
        "url": "u",
    }


@pytest.fixture
def claimed(tmp_path, png):
    """URI of a store in whose ledger operator-1 works on a batch, and the batch's id."""
    batch = tmp_path / "incoming" / "b1"
    batch.mkdir(parents=True)
    (batch / "1.png").write_bytes(png(1))
    (batch / "_COMPLETE").touch()
    store = str(tmp_path / "store")
    found = poll("", str(batch), store, "line", tmp_path, "operator-1", 60)
    assert found["found"]
    return store, found["id"]


def entries(store):
    return [(each.action, each.subject, each.actor) for each in AuditLog(open_store(store)).entries()]


def test_the_ledger_and_the_audit_log_are_told(claimed):
    store, batch_id = claimed
    conclude(store, "line", "b1", batch_id, "operator-1", SCREENED)
    assert entries(store) == [("run.finished", "line/b1", "operator-1")]
    record = Ledger(open_store(store), "line").find(batch_id)
    assert (record.state, record.outcome["images"]) == ("done", 24)


def test_a_failure_is_told_with_its_exit_code(claimed):
    store, batch_id = claimed
    conclude_failed(store, "line", "b1", batch_id, "operator-1", "step 'train': diverged", 1, outage=False)
    assert entries(store) == [("run.failed", "line/b1", "operator-1")]
    record = Ledger(open_store(store), "line").find(batch_id)
    assert (record.state, record.outcome["exit_code"]) == ("failed", 1)


@pytest.mark.parametrize(
    ("kind", "again"), [("DataError", False), ("StorageError", True), ("RegistryUnavailable", True)]
)
def test_an_outage_is_worth_another_run_and_bad_input_is_not(claimed, tmp_path, kind, again):
    store, batch_id = claimed
    conclude_failed(store, "line", "b1", batch_id, "operator-1", "a sentence", 2, outage=is_outage(kind))
    found = poll("", str(tmp_path / "incoming" / "b1"), store, "line", tmp_path, "operator-2", 60)
    assert found["found"] == again


def test_who_lost_the_batch_tells_nothing(claimed):
    store, batch_id = claimed
    with pytest.raises(ConflictError, match="taken over from operator-2"):
        conclude(store, "line", "b1", batch_id, "operator-2", SCREENED)
    assert entries(store) == []
