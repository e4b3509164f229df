"""`mscflow watch`, `retrain` and `batches` as a person and a machine use them."""

import json
import shutil
import signal
import subprocess

import pytest

from components.batches.steps import conclude, poll

from .conftest import MSCFLOW, NO_FLOORS, SMALL, environment
from .watching import LINEAGE, upload

MORE = [
    *("--set", "screening.margin=1", "--set", "gate.max_loss=1", "--set", "gate.max_slowdown=1000"),
    *("--set", "gate.max_latency=100"),
]


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "incoming").mkdir()
    return tmp_path


def work_off(lab, name, **outcome):
    """Do to a batch what a run on it does to the ledger."""
    store, home = str(lab / ".mscflow" / "store"), lab / ".mscflow"
    found = poll(str(lab / "incoming"), None, store, LINEAGE, home, "operator-1", 60)
    assert found["batch"] == name
    failed = "; ".join(outcome["reasons"]) if outcome["ended"] == "failed" else None
    conclude(store, LINEAGE, found["id"], "operator-1", outcome, failed)


def test_a_place_that_is_not_there_is_told(lab, mscflow, ports):
    done = mscflow("watch", "nowhere", *ports, cwd=lab)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"mscflow: {lab / 'nowhere'} is no folder; check the path\n"


@pytest.mark.slow
def test_without_a_champion_the_lineage_must_be_named(lab, mscflow, ports):
    done = mscflow("watch", "incoming", "--once", *ports, cwd=lab)
    assert done.code == 2
    assert "there is no champion of confluence-single-stack" in done.err
    assert "--ref" in done.err


def test_a_machine_gets_a_line_for_each_thing(lab, mscflow, ports):
    upload(lab / "incoming", "day-1", whole=False)
    done = mscflow("watch", "incoming", "--once", "--json", "--ref", LINEAGE, *ports, cwd=lab)
    assert (done.code, done.err) == (0, "")
    assert [json.loads(line) for line in done.out.splitlines()] == [
        {"event": "waiting", "batches": {"day-1": "neither _COMPLETE nor batch.json is there yet"}},
        {"event": "idle", "why": "nothing new has arrived"},
    ]


def test_a_person_reads_what_is_waited_for_and_ends_it(lab, ports):
    upload(lab / "incoming", "day-1", whole=False)
    with subprocess.Popen(
        [MSCFLOW, "watch", "incoming", "--ref", LINEAGE, *ports],
        cwd=lab,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as watcher:
        told = [watcher.stderr.readline() for _ in range(3)]
        watcher.send_signal(signal.SIGINT)
        _, rest = watcher.communicate(timeout=30)
    assert watcher.returncode == 130
    assert told[0] == f"looking for batches in incoming for lineage {LINEAGE} (every 60 s; Ctrl-C ends it)\n"
    assert "batch day-1 waits: neither" in told[1]
    assert "nothing new has arrived" in told[2]
    assert "mscflow: interrupted" in rest


def test_batches_are_listed_with_what_came_of_them(lab, mscflow):
    assert "no batch yet" in mscflow("batches", cwd=lab).out
    for name in ("day-1", "day-2"):
        upload(lab / "incoming", name)
    work_off(lab, "day-1", ended="stopped", reasons=["labels contradict the champion"])
    work_off(lab, "day-2", ended="failed", reasons=["no image can be used"], exit_code=2)
    listed = mscflow("batches", "--json", cwd=lab).json
    assert [(each["name"], each["state"], each["ended"]) for each in listed] == [
        ("day-1", "done", "stopped"),
        ("day-2", "failed", "failed"),
    ]
    shown = mscflow("batches", cwd=lab).out
    assert "stopped: labels contradict the champion" in shown
    assert "failed: no image can be used" in shown


def test_a_batch_that_was_worked_on_is_told_and_one_that_failed_is_an_error(lab, mscflow, ports):
    for name in ("day-1", "day-2"):
        upload(lab / "incoming", name)
    work_off(lab, "day-1", ended="stopped", reasons=["labels contradict the champion"])
    work_off(lab, "day-2", ended="failed", reasons=["no image can be used"], exit_code=2)
    done = mscflow("retrain", "--batch", "incoming/day-1", "--ref", LINEAGE, *ports, cwd=lab)
    assert done.code == 0
    assert "stopped before; --again works on it again" in done.out
    done = mscflow("retrain", "--batch", "incoming/day-2", "--ref", LINEAGE, *ports, cwd=lab)
    assert done.code == 2
    assert "failed before (no image can be used)" in done.err


def test_half_a_batch_is_refused_by_name(lab, mscflow, ports):
    upload(lab / "incoming", "day-1")
    (lab / "incoming" / "day-1" / "1.png").unlink()
    done = mscflow("retrain", "--batch", "incoming/day-1", "--ref", LINEAGE, "--json", *ports, cwd=lab)
    assert done.code == 2
    assert done.json["error"].endswith("is not complete: batch.json says 2 images, and 1 are there")


@pytest.mark.slow
def test_a_new_batch_becomes_a_model_once(place, ports, mscflow):
    options = [*SMALL, *NO_FLOORS, *MORE, *ports]
    assert mscflow("data", "simulate", "incoming/day-1", "--images", 60, "--size", 64, "--seed", 5, cwd=place).code == 0
    (place / "incoming" / "day-1" / "_COMPLETE").touch()
    done = mscflow("watch", "incoming", "--once", "--json", "--ref", LINEAGE, *options, cwd=place)
    assert done.code == 0, done.err
    events = {event["event"]: event for event in map(json.loads, done.out.splitlines())}
    assert list(events) == ["begun", "ended", "idle"]
    assert events["ended"]["ended"] in {"released", "refused"}, events
    assert events["ended"]["version"] == "1"
    shutil.copytree(place / "incoming" / "day-1", place / "incoming" / "day-1 again")
    done = mscflow("watch", "incoming", "--once", "--json", "--ref", LINEAGE, *options, cwd=place)
    assert [json.loads(line)["event"] for line in done.out.splitlines()] == ["idle"]
    (row,) = mscflow("batches", "--ref", LINEAGE, "--json", cwd=place).json
    assert (row["name"], row["state"], row["attempts"]) == ("day-1", "done", 1)
