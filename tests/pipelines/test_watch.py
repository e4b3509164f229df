"""Watchers as they are: several processes, which are killed, stopped, interrupted, and look at half an upload."""

import signal
import time

import pytest

from .watching import WatcherProcess, ledger, upload, wait_until_done

LEASE = 1.0


@pytest.fixture
def start(tmp_path):
    """Starts watchers of one place; those that live at the end are killed."""
    started = []

    def begin(owner, **options):
        started.append(WatcherProcess(tmp_path, owner, **{"lease": LEASE, **options}))
        return started[-1]

    (tmp_path / "watched").mkdir()
    yield begin
    for each in started:
        if each.process.poll() is None:
            each.end()


def done_moves(record):
    return [move.owner for move in record.history if move.state == "done"]


def working_times(watchers):
    """When each run began and ended its work, by time."""
    events = [event for each in watchers for event in each.events if event["event"] in {"working", "worked"}]
    return [event["event"] for event in sorted(events, key=lambda event: event["time"])]


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_of_two_watchers_each_batch_is_worked_on_once_and_one_at_a_time(tmp_path, start, kind, request):
    root = request.getfixturevalue("s3_uri") if kind == "s3" else str(tmp_path)
    places = {"watched": f"{root}/watched", "store": f"{root}/store"}
    upload(places["watched"], "day-0")
    watchers = [start(owner, work=0.1, lease=60.0, **places) for owner in ("one", "two")]
    for day in range(1, 5):
        upload(places["watched"], f"day-{day}")
    wait_until_done(places["store"], 5)
    for each in watchers:
        each.end()
    records = ledger(places["store"]).records()
    assert [record.name for record in records] == [f"day-{day}" for day in range(5)]
    assert [(record.attempts, len(done_moves(record))) for record in records] == [(1, 1)] * 5
    assert working_times(watchers) == ["working", "worked"] * 5


@pytest.mark.parametrize("when", ["before", "working", "concluding"])
def test_what_a_killed_watcher_had_begun_is_finished_by_another(tmp_path, start, when):
    upload(tmp_path / "watched", "day-1")
    killed = start("one", work=0.0 if when == "concluding" else 30.0)
    killed.wait_for({"before": "begun", "working": "working", "concluding": "worked"}[when])
    killed.end(signal.SIGKILL)
    start("two").wait_for("idle", why="nothing new has arrived")
    (record,) = ledger(tmp_path / "store").records()
    assert record.state == "done"
    assert len(done_moves(record)) == 1
    assert ledger(tmp_path / "store").turn() is None


def test_a_run_may_take_longer_than_the_lease(tmp_path, start):
    upload(tmp_path / "watched", "day-1")
    slow = start("one", work=5.0, lease=2.0)
    slow.wait_for("working")
    other = start("two")
    other.wait_for("idle", why="one works on batch day-1 of lineage 'clinic'")
    slow.wait_for("ended", batch="day-1")
    other.end()
    (record,) = ledger(tmp_path / "store").records()
    assert (record.attempts, done_moves(record)) == (1, ["one"])


def test_a_watcher_that_was_frozen_finds_its_batch_taken_over_and_stops_its_run(tmp_path, start):
    upload(tmp_path / "watched", "day-1")
    frozen = start("one", work=30.0)
    frozen.wait_for("working")
    frozen.send(signal.SIGSTOP)
    start("two").wait_for("ended", batch="day-1")
    frozen.send(signal.SIGCONT)
    assert "taken over from one" in frozen.wait_for("failed", batch="day-1")["error"]
    frozen.wait_for("idle", why="nothing new has arrived")
    (record,) = ledger(tmp_path / "store").records()
    assert (record.attempts, done_moves(record)) == (2, ["two"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_person_interrupts_is_due_for_others_at_once(tmp_path, start, number):
    upload(tmp_path / "watched", "day-1")
    stopped = start("one", work=30.0, lease=3600.0)
    stopped.wait_for("working")
    assert "KeyboardInterrupt" in stopped.end(number)
    start("two").wait_for("ended", batch="day-1")
    (record,) = ledger(tmp_path / "store").records()
    assert (record.attempts, done_moves(record)) == (1, ["two"])


def test_half_an_upload_waits_and_holds_nothing_up(tmp_path, start):
    upload(tmp_path / "watched", "day-1", whole=False)
    upload(tmp_path / "watched", "day-2")
    watcher = start("one")
    told = watcher.wait_for("waiting")
    assert told["batches"] == {"day-1": "neither _COMPLETE nor batch.json is there yet"}
    watcher.wait_for("ended", batch="day-2")
    upload(tmp_path / "watched", "day-1")
    watcher.wait_for("ended", batch="day-1")


def test_the_same_batch_again_is_nothing_new_and_labels_that_come_later_are(tmp_path, start):
    upload(tmp_path / "watched", "day-1")
    watcher = start("one")
    watcher.wait_for("ended", batch="day-1")
    upload(tmp_path / "watched", "day-1")
    upload(tmp_path / "watched", "day-2", images=3)
    watcher.wait_for("ended", batch="day-2")
    (tmp_path / "watched" / "day-1" / "labels.csv").write_text("file,class\n0.png,1\n")
    watcher.wait_for("ended", batch="day-1")
    assert [record.name for record in ledger(tmp_path / "store").records()] == ["day-1", "day-1", "day-2"]


def test_a_run_that_fails_is_tried_three_times_and_then_left_to_a_person(tmp_path, start):
    upload(tmp_path / "watched", "day-1")
    upload(tmp_path / "watched", "day-2")
    watcher = start("one", fails=True)
    failed = [watcher.wait_for("failed")["batch"] for _ in range(6)]
    assert failed == ["day-1"] * 3 + ["day-2"] * 3
    watcher.wait_for("idle", why="nothing new has arrived")
    assert [record.state for record in ledger(tmp_path / "store").records()] == ["failed", "failed"]


def test_a_place_that_goes_away_is_told_and_waited_for(tmp_path, start):
    watcher = start("one")
    watcher.wait_for("idle", why="nothing new has arrived")
    (tmp_path / "watched").rename(tmp_path / "elsewhere")
    assert f"{tmp_path / 'watched'} is no folder" in watcher.wait_for("trouble")["error"]
    (tmp_path / "elsewhere").rename(tmp_path / "watched")
    upload(tmp_path / "watched", "day-1")
    watcher.wait_for("ended", batch="day-1")
    time.sleep(0.2)
    watcher.end()
    assert sum(event["event"] == "trouble" for event in watcher.events) == 1, "what has not changed is told once"
