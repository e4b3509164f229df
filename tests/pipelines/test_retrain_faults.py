"""What must hold when a retraining is killed: registry, ledger, audit log and endpoint are whole, and it goes on.

One batch is retrained on, and killed on the way again and again; each run takes over from the one before.
"""

import json
import time

import pytest

from components.registry.versions import Alias, Registry
from tests.servers import MlflowServer, free_ports

from .conftest import runs_in
from .retraining import LINEAGE, MODEL, Laboratory, kill, prepare, upload, wait_for

pytestmark = pytest.mark.slow

AWAY = 5.0  # seconds

# Steps that change what others see, at their beginning, or at their end, when the step has done its work and nobody
# else knows. The others were killed, too; see docs/retraining/faults.md.
KILLED_AT = (
    ("started", "admit"),
    ("finished", "train"),
    ("finished", "register"),
    ("finished", "promote"),
    ("finished", "verify"),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, mscflow):
    made = prepare(tmp_path_factory.mktemp("killed"), mscflow, batches=2)
    yield made
    mscflow("--home", "home", "serve", "--stop", cwd=made.folder)


@pytest.mark.parametrize(("event", "step"), KILLED_AT)
def test_whenever_it_is_killed_all_that_lasts_is_whole(lab, event, step):
    known = runs_in(lab.home)
    going = lab.start(lab.folder / "b1")
    wait_for(lab.home, known, event, step)
    kill(going)
    lab.check_whole()
    (record,) = lab.records()
    assert (record.state, record.outcome) == ("running", {})


def test_the_run_after_the_last_kill_finishes_what_was_begun(lab):
    done = lab.run(lab.folder / "b1")
    assert done.code == 0, done.err
    assert {"search", "train", "evaluate"} <= set(done.json["cached"])
    assert done.json["results"]["conclude"]["ended"] == "released"
    lab.check_whole()
    (record,) = lab.records()
    assert (record.state, record.attempts) == ("done", len(KILLED_AT) + 1)
    versions = Registry(lab.settings.mlflow_uri).versions(MODEL)
    assert {version.version: Alias.CHAMPION in version.aliases for version in versions} == {"2": True, "1": False}
    # What was done once is told once, however many runs it took.
    actions = lab.actions()
    assert actions.count("batch.admitted") == actions.count("run.finished") == 1
    assert actions.count("model.registered") == actions.count("model.promoted") == 2


def test_of_two_at_once_one_works_on_the_batch_and_the_other_finds_nothing(lab):
    before = len(Registry(lab.settings.mlflow_uri).versions(MODEL))
    both = [lab.start(lab.folder / "b2", owner) for owner in ("operator-1", "operator-2")]
    ended = [going.communicate(timeout=280) for going in both]
    assert [going.returncode for going in both] == [0, 0], ended
    concluded = [record.owner for record in lab.records() if record.name == "b2" and record.state == "done"]
    assert len(concluded) == 1
    assert len(Registry(lab.settings.mlflow_uri).versions(MODEL)) == before + 1
    assert [entry["actor"] for entry in lab.audit()["entries"] if entry["subject"] == f"{LINEAGE}/b2"].count(
        concluded[0]
    )
    lab.check_whole()


def test_a_store_and_a_registry_that_are_away_for_a_while_are_waited_for(
    tmp_path, mscflow, start_s3_server, monkeypatch
):
    store, registry = start_s3_server(), MlflowServer(tmp_path)
    registry.start()
    places = {"MSCFLOW_STORE": f"{store.make_bucket()}/store", "MLFLOW_TRACKING_URI": registry.uri}
    variables = {**store.environment(), **places}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        lab = Laboratory(tmp_path, free_ports(2))
        (lab.home / "runs").mkdir(parents=True)
        with lab.start(upload(tmp_path, "b1", mscflow, images=60), **variables) as going:
            wait_for(lab.home, set(), "started", "train")
            store.stop()
            registry.stop()
            time.sleep(AWAY)
            store.start()
            registry.start()
            out, complaint = going.communicate(timeout=280)
        assert going.returncode == 0, complaint
        assert json.loads(out)["results"]["conclude"]["ended"] == "released"
        lab.check_whole()
        assert lab.actions().count("model.promoted") == 1
    finally:
        mscflow("--home", "home", "serve", "--stop", cwd=tmp_path)
        registry.stop()
