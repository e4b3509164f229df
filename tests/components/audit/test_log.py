import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.audit.entry import deed, this_actor
from components.audit.log import AuditLog
from components.audit.verification import verify
from components.culture import Modality
from components.errors import StorageError
from components.storage import ObjectStore, open_store


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A folder and a real S3 server."""
    return open_store(request.getfixturevalue("s3_uri") if request.param == "s3" else tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path / "store")


def test_entries_come_back_in_order_and_each_names_the_one_before(store: ObjectStore) -> None:
    log = AuditLog(store)
    made = [log.append("batch.admitted", f"line/{day}", actor="operator-1", reason="weekly") for day in range(20)]
    read = list(AuditLog(store).entries())
    assert read == made
    assert [each.sequence for each in read] == list(range(20))
    assert [each.before for each in read] == [None, *(each.digest for each in read[:-1])]
    assert list(log.newest_first()) == made[::-1]
    assert list(log.entries(17)) == made[17:]
    first = json.loads(store.read("audit/00000000.json"))
    assert (first["actor"], first["reason"], first["subject"]) == ("operator-1", "weekly", "line/0")
    assert first["code_version"]
    assert first["environment"]["python"]


def test_details_are_kept_as_plain_json(folder: ObjectStore) -> None:
    details = {"when": datetime(2026, 1, 2, tzinfo=UTC), "page": Path("a/b"), "of": Modality.SINGLE_STACK, "n": (1, 2)}
    entry = AuditLog(folder).append("x.y", "z", actor="a", details=details)
    assert entry.details == {"when": "2026-01-02T00:00:00Z", "page": "a/b", "of": "single_stack", "n": [1, 2]}
    assert next(AuditLog(folder).entries()) == entry


def test_appenders_at_once_make_one_chain(store: ObjectStore) -> None:
    ready = threading.Barrier(4)

    def append(name: str) -> None:
        log = AuditLog(open_store(store.uri))
        ready.wait()
        for number in range(6):
            log.append("x.y", f"{name}{number}", actor=name)

    threads = [threading.Thread(target=append, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = list(AuditLog(store).entries())
    assert [each.sequence for each in read] == list(range(24))
    assert [each.before for each in read[1:]] == [each.digest for each in read[:-1]]
    for name in "abcd":  # nobody's own order is lost
        assert [each.subject for each in read if each.actor == name] == [f"{name}{number}" for number in range(6)]


def test_a_deed_told_again_is_entered_once(store: ObjectStore) -> None:
    log = AuditLog(store)
    told = deed("x.y", "z", actor="a")
    first = log.enter(told, since=0)
    log.append("x.y", "another", actor="b")
    assert log.enter(told, since=0) == first
    assert len(list(log.entries())) == 2


def test_an_entry_whose_answer_was_lost_is_not_doubled(folder: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = folder.create

    def lose(key: str, data: Any) -> bool:
        real(key, data)
        return False

    log = AuditLog(folder)
    with monkeypatch.context() as patch:
        patch.setattr(folder, "create", lose)
        entry = log.append("x.y", "z", actor="a")
    assert list(log.entries()) == [entry]


def test_a_damaged_log_takes_entries_and_the_damage_is_named(store: ObjectStore) -> None:
    log = AuditLog(store)
    for number in range(3):
        log.append("x.y", str(number), actor="a")
    store.write("audit/00000002.json", b"{}")
    told = deed("x.y", "after", actor="a")
    assert log.enter(told, since=0) == log.enter(told, since=0)
    assert [each.subject for each in log.entries()] == ["0", "1", "after"]
    found = verify(log)
    assert [(fault.place, fault.kind) for fault in found.faults] == [(2, "altered")]
    assert found.doubtful == (0, 1)


def test_a_log_that_others_write_without_end_is_given_up(folder: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    log, other = AuditLog(folder), AuditLog(open_store(folder.uri))

    def lose(key: str, data: Any) -> bool:
        other.append("x.y", "other", actor="b")
        return False

    monkeypatch.setattr("components.audit.log._PAUSE", 0)
    monkeypatch.setattr(folder, "create", lose)
    with pytest.raises(StorageError, match="came before this one"):
        log.append("x.y", "z", actor="a")


def test_the_actor_is_who_the_environment_names_or_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSCFLOW_ACTOR", raising=False)
    assert "@" in this_actor()
    monkeypatch.setenv("MSCFLOW_ACTOR", "retraining of plant 1")
    assert this_actor() == "retraining of plant 1"
