"""Each batch is worked on once: by one owner at a time, whoever is killed, and whatever is uploaded again."""

import shutil
import subprocess
import sys
import time

import pytest

from components.batches.arrival import MANIFEST, MARKER, find_arrivals
from components.batches.ledger import Ledger
from components.batches.steps import conclude, peek, poll
from components.errors import ConflictError, InputError
from components.storage import LocalStore, open_store

from .test_arrival import IMAGES, upload

LONG, SHORT = 60.0, 0.2
LINEAGE = "clinic"


@pytest.fixture
def place(tmp_path):
    """A watched folder with two complete batches, and a store."""
    for number in (1, 2):
        content = {name: data + bytes([number]) for name, data in IMAGES.items()}
        (upload(tmp_path / "watched" / f"day-{number}", content) / MARKER).touch()
    return tmp_path


def look(place, owner="one", seconds=LONG, batch=None):
    return poll(str(place / "watched"), batch, str(place / "store"), LINEAGE, place / "home", owner, seconds)


def end(place, found, owner="one", failed=None, exit_code=0):
    outcome = {"ended": "failed" if failed else "refused", "exit_code": exit_code}
    return conclude(str(place / "store"), LINEAGE, found["id"], owner, outcome, failed)


def ledger(place):
    return Ledger(open_store(str(place / "store")), LINEAGE)


def test_batches_are_worked_on_by_name_one_at_a_time_and_once(place):
    first = look(place)
    assert (first["found"], first["batch"], first["attempt"]) == (True, "day-1", 1)
    busy = look(place, owner="two")
    assert not busy["found"]
    assert busy["why"] == "one works on batch day-1 of lineage 'clinic'"
    end(place, first)
    second = look(place, owner="two")
    assert second["batch"] == "day-2"
    end(place, second, owner="two")
    assert look(place) == {"found": False, "why": "nothing new has arrived", "waiting": [], "finished": 2}


def test_a_silent_owner_is_replaced_and_can_neither_renew_nor_conclude(place):
    first = look(place, seconds=SHORT)
    time.sleep(2 * SHORT)
    taken = look(place, owner="two")
    assert (taken["id"], taken["attempt"]) == (first["id"], 2)
    with pytest.raises(ConflictError, match="was taken over from one"):
        ledger(place).renew("one", LONG)
    with pytest.raises(ConflictError, match="was taken over from one"):
        end(place, first)
    end(place, taken, owner="two")
    (record,) = ledger(place).records()
    assert (record.state, record.owner) == ("done", "two")
    assert [move.owner for move in record.history] == ["one", "two", "two"]


def test_an_owner_that_renews_is_not_replaced(place):
    look(place, seconds=SHORT)
    for _ in range(5):
        time.sleep(SHORT / 2)
        ledger(place).renew("one", SHORT)
        assert not look(place, owner="two")["found"]


def test_concluding_twice_is_concluding_once(place):
    found = look(place)
    assert end(place, found) == end(place, found)
    assert len(ledger(place).records()[0].history) == 2


def test_the_same_upload_again_is_not_worked_on_again(place):
    end(place, look(place))
    end(place, look(place))
    again = place / "watched" / "day-1"
    shutil.copytree(again, place / "copy")
    shutil.rmtree(again)
    shutil.copytree(place / "copy", again)
    shutil.copytree(place / "copy", place / "watched" / "day-3")
    assert look(place)["finished"] == 3
    assert len(ledger(place).records()) == 2


def test_labels_that_come_later_are_a_batch_of_the_same_name(place):
    end(place, look(place))
    end(place, look(place))
    (place / "watched" / "day-1" / "labels.csv").write_text("file,class\na.png,1\n")
    found = look(place)
    assert (found["found"], found["batch"], found["attempt"]) == (True, "day-1", 1)
    assert [record.name for record in ledger(place).records()] == ["day-1", "day-1", "day-2"]


def test_a_batch_that_is_done_costs_no_reading(place, monkeypatch):
    end(place, look(place))
    end(place, look(place))

    def never(*_):
        raise AssertionError("a file of a batch that is done was read")

    monkeypatch.setattr("components.batches.steps.identify", never)
    assert look(place)["finished"] == 2


def test_a_failed_batch_is_tried_again_some_times_unless_its_input_is_at_fault(place):
    for attempt in (1, 2, 3):
        found = look(place)
        assert (found["batch"], found["attempt"]) == ("day-1", attempt)
        end(place, found, failed="the disk died", exit_code=1)
    found = look(place)
    assert found["batch"] == "day-2"
    end(place, found, failed="no image can be used", exit_code=2)
    assert look(place)["finished"] == 2
    ledger(place).reopen(found["id"], by="operator-1")
    assert look(place)["batch"] == "day-2"


def test_a_peek_claims_nothing(place):
    where = str(place / "watched"), None, str(place / "store"), LINEAGE, place / "home", "one"
    assert peek(*where)["batch"] == peek(*where)["batch"] == "day-1"
    assert ledger(place).records() == []


def test_a_named_batch_goes_first_but_must_hold_what_it_says(place):
    batch = place / "watched" / "day-2"
    assert look(place, batch=str(batch))["batch"] == "day-2"
    (batch / MANIFEST).write_text('{"count": 7}')
    with pytest.raises(InputError, match=r"is not complete: batch\.json says 7"):
        look(place, batch=str(batch))


def test_what_waits_is_told(place):
    (place / "watched" / "day-1" / MARKER).unlink()
    found = look(place)
    assert found["batch"] == "day-2"
    assert [each["name"] for each in found["waiting"]] == ["day-1"]


WATCHER = """
import sys
from pathlib import Path
from components.batches.steps import conclude, poll

place, owner = Path(sys.argv[1]), sys.argv[2]
input()
quiet = 0
while quiet < 3:
    found = poll(str(place / "watched"), None, str(place / "store"), "clinic", place / "home", owner, 60)
    if found["found"]:
        print(found["batch"], flush=True)
        conclude(str(place / "store"), "clinic", found["id"], owner, {"ended": "refused"}, None)
    else:
        quiet += found["why"] == "nothing new has arrived"
"""


def test_of_several_watchers_each_batch_is_one_s(place):
    for number in range(3, 11):
        (upload(place / "watched" / f"day-{number}", {"a.png": bytes([number])}) / MARKER).touch()
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    watchers = [
        subprocess.Popen([sys.executable, "-c", WATCHER, str(place), owner], **given)
        for owner in ("one", "two", "three")
    ]
    for each in watchers:
        each.stdin.write("go\n")
        each.stdin.flush()
    claimed = [line for each in watchers for line in each.communicate(timeout=60)[0].split()]
    assert [each.returncode for each in watchers] == [0, 0, 0]
    assert sorted(claimed) == sorted(f"day-{number}" for number in range(1, 11))
    assert {record.attempts for record in ledger(place).records()} == {1}


def test_an_altered_ledger_is_told(place):
    found = look(place)
    path = place / "store" / "batches" / LINEAGE / f"{found['id']}.json"
    path.write_text("{}")
    with pytest.raises(Exception, match="was altered"):
        ledger(place).records()


def test_an_interrupted_run_leaves_its_batch_to_everybody_at_once_and_costs_no_attempt(place):
    found = look(place)
    ledger(place).release("one")
    (record,) = ledger(place).records()
    assert (record.state, record.attempts, record.history[-1].note) == ("running", 0, "interrupted")
    again = look(place, owner="two")
    assert (again["id"], again["attempt"]) == (found["id"], 1)
    ledger(place).release("one")
    assert ledger(place).turn().owner == "two"


def test_a_batch_whose_runs_all_die_without_a_word_is_left_to_a_person(place):
    for attempt in (1, 2, 3):
        assert look(place, owner=f"watcher-{attempt}", seconds=SHORT)["attempt"] == attempt
        time.sleep(2 * SHORT)
    assert look(place)["batch"] == "day-2"
    (record, _) = ledger(place).records()
    assert (record.state, record.owner) == ("failed", "watcher-3")
    assert record.outcome["reasons"] == ["3 runs ended without a word (killed, or out of memory?)"]


class LosesAnswers(LocalStore):
    """A store each of whose conditional writes is made, and then denied, as S3 may do when an answer is lost."""

    def replace(self, key, data, expected):
        super().replace(key, data, expected)
        raise ConflictError(f"{key} was changed by another writer")


def test_a_write_whose_answer_is_lost_was_made_all_the_same(place):
    arrival = find_arrivals(open_store(str(place / "watched")))[0]
    unsteady = Ledger(LosesAnswers(place / "store"), LINEAGE)
    record = unsteady.claim(arrival, "0" * 64, None, "one", LONG)
    assert record.attempts == 1
    unsteady.renew("one", LONG)
    assert unsteady.conclude(record.id, "one", {"ended": "refused"}, None).state == "done"
    assert ledger(place).turn() is None


def test_a_turn_that_is_renewed_while_it_is_given_back_is_given_back(place, monkeypatch):
    look(place)
    replace, renewed = LocalStore.replace, []

    def renew_first(store, key, data, expected):
        if not renewed:
            renewed.append(key)
            ledger(place).renew("one", LONG)
        replace(store, key, data, expected)

    monkeypatch.setattr(LocalStore, "replace", renew_first)
    ledger(place).give_back("one")
    assert renewed == ["batches/clinic/turn.json"]
    assert ledger(place).turn() is None


def test_the_ledger_names_its_lineages(place):
    store = open_store(str(place / "store"))
    assert Ledger.lineages(store) == []
    look(place)
    assert Ledger.lineages(store) == [LINEAGE]
