"""A run is followed to its end, through whatever happens on the way."""

import pytest

from components.errors import EndpointUnavailable, GateRefused
from components.failure import Failure, leave_word
from components.patience import RUN_VARIABLE
from pipelines.kubeflow.connection import Connection
from pipelines.kubeflow.failures import NotThere
from pipelines.kubeflow.following import RunFailed, follow
from pipelines.kubeflow.running import cancel
from pipelines.kubeflow.submission import find, judge, submit, train_run, word_of

from .keeping import task

STEPS = ["snapshot", "validate", "split", "search", "train", "evaluate", "register", "promote", "deploy", "verify"]
# What KFP runs for its own ends stands among the tasks.
OTHERS = [task("root-driver", "SUCCEEDED", 0, 1), task("root", "RUNNING"), task("snapshot-driver", "SUCCEEDED", 1, 2)]


def done(*steps):
    return [task(step, "SUCCEEDED", 10 * number, 10 * number + 4) for number, step in enumerate(steps, start=1)]


@pytest.fixture
def submitted(connection, settings, train):
    return submit(connection, settings, train, train_run(settings, "s3://cultures/2026"))


@pytest.fixture
def watch(connection, submitted):
    """Follows the run; gives how it ended, and what was told on the way."""

    def run():
        events = []
        ended = follow(connection, submitted.run_id, submitted.steps, events.append)
        return ended, [(event["event"], event["step"]) for event in events]

    return run


def test_each_step_is_told_of_as_it_begins_and_ends(kubeflow, watch):
    looks = [
        {"state": "PENDING"},
        {"state": "RUNNING", "tasks": [*OTHERS, task("snapshot", "RUNNING", 10)]},
        {"state": "RUNNING", "tasks": [*OTHERS, *done("snapshot"), task("validate", "RUNNING", 20)]},
        {"state": "SUCCEEDED", "tasks": [*OTHERS, *done(*STEPS)]},
    ]
    kubeflow.becomes = lambda _run, look: looks[look - 1]
    ended, told = watch()
    assert told[:4] == [
        ("started", "snapshot"),
        ("finished", "snapshot"),
        ("started", "validate"),
        ("finished", "validate"),
    ]
    assert [step for event, step in told if event == "finished"] == STEPS
    assert (ended.state, ended.seconds) == ("SUCCEEDED", 100)
    assert {task.seconds for task in ended.tasks} == {4}


@pytest.mark.parametrize("fault", [500, 502, 503, 429, "cut", "lost"])
def test_an_api_that_is_away_for_a_while_is_waited_for(kubeflow, watch, fault):
    kubeflow.becomes = lambda _run, look: {"state": "SUCCEEDED" if look > 1 else "RUNNING"}
    kubeflow.faults["run_service_get_run"] = [fault, fault]
    assert watch()[0].state == "SUCCEEDED"


def test_an_api_that_stays_away_ends_the_following_with_its_words(kubeflow, settings_for, submitted):
    kubeflow.faults["run_service_get_run"] = [503] * 50
    with (
        Connection(settings_for(kubeflow, patience=0.5).kubeflow) as connection,
        pytest.raises(EndpointUnavailable, match="503: a fault of 503"),
    ):
        follow(connection, submitted.run_id, submitted.steps, lambda _event: None)


def test_a_run_that_was_deleted_is_named(kubeflow, watch, submitted):
    kubeflow.kept["runs"].clear()
    with pytest.raises(NotThere, match=f"runs {submitted.run_id} not found"):
        watch()


def test_a_failed_run_names_its_step_and_why(kubeflow, watch, submitted):
    failed = task("split", "FAILED", 30, 31, "main: exit status 2, data version 'x' has 3 vessels")
    kubeflow.becomes = lambda _run, _look: {
        "state": "FAILED",
        "error": {"code": 13, "message": "the workflow failed"},
        "tasks": [*done("snapshot", "validate"), failed],
    }
    ended, told = watch()
    assert told[-1] == ("failed", "split")
    with pytest.raises(RunFailed, match=r"step 'split' failed: main: exit status 2, data version 'x' has 3 vessels"):
        judge(submitted, ended, None, approval=False)


def test_what_the_failed_step_left_in_the_store_is_told_with_its_exit_code(
    kubeflow, settings, watch, submitted, tmp_path, monkeypatch
):
    monkeypatch.setenv("MSCFLOW_STORE", str(tmp_path))
    monkeypatch.setenv(RUN_VARIABLE, submitted.run_id)
    leave_word(Failure(step="split", message="data version 'x' has 3 vessels", error="DataError", exit_code=2))
    monkeypatch.delenv(RUN_VARIABLE)
    kubeflow.becomes = lambda _run, _look: {
        "state": "FAILED",
        "tasks": [task("split", "FAILED", error="exit status 1")],
    }
    ended, _ = watch()
    word = word_of(settings.model_copy(update={"store": str(tmp_path)}), submitted, ended)
    with pytest.raises(RunFailed, match="step 'split': data version 'x' has 3 vessels") as failed:
        judge(submitted, ended, word, approval=False)
    assert failed.value.exit_code == 2


def test_a_store_out_of_reach_costs_the_word_alone(kubeflow, settings, watch, submitted, tmp_path):
    (tmp_path / "file").write_text("")
    kubeflow.becomes = lambda _run, _look: {"state": "FAILED"}
    assert word_of(settings.model_copy(update={"store": str(tmp_path / "file")}), submitted, watch()[0]) is None


def test_a_run_that_failed_before_any_step_tells_the_reason_of_the_whole(kubeflow, watch, submitted):
    kubeflow.becomes = lambda _run, _look: {"state": "FAILED", "error": {"code": 9, "message": "image not found"}}
    with pytest.raises(RunFailed, match="it failed: image not found"):
        judge(submitted, watch()[0], None, approval=False)


def test_a_cancelled_run_is_no_success(kubeflow, connection, watch, submitted):
    kubeflow.becomes = lambda _run, _look: {"state": "RUNNING"}
    cancel(connection, submitted.run_id)
    with pytest.raises(RunFailed, match="it was cancelled"):
        judge(submitted, watch()[0], None, approval=False)


@pytest.mark.parametrize(("approval", "error"), [(False, GateRefused), (True, None)])
def test_a_run_that_deployed_nothing_was_refused_unless_a_person_is_to_decide(
    kubeflow, watch, submitted, approval, error
):
    kubeflow.becomes = lambda _run, _look: {"state": "SUCCEEDED", "tasks": done(*STEPS[:-2])}
    ended, _ = watch()
    if error is None:
        judge(submitted, ended, None, approval=approval)
    else:
        with pytest.raises(error, match="the gate refused the model"):
            judge(submitted, ended, None, approval=approval)


def test_folds_and_numbered_steps_are_all_told(kubeflow, connection, submitted):
    folds = [task("fold", "SUCCEEDED", begin, begin + 5) for begin in (10, 11, 12)]
    kubeflow.becomes = lambda _run, _look: {
        "state": "SUCCEEDED",
        "tasks": [*folds, task("conclude-2", "SUCCEEDED", 20)],
    }
    events = []
    ended = follow(connection, submitted.run_id, ("fold", "conclude"), events.append)
    assert [event["step"] for event in events] == ["fold", "fold", "fold", "conclude"]
    assert len(ended.tasks) == 4


def test_a_run_is_found_again_with_its_steps_and_link(connection, settings, submitted):
    assert find(connection, settings, submitted.run_id) == submitted


def test_a_state_that_is_newer_than_this_client_is_waited_out(kubeflow, connection, submitted):
    kubeflow.becomes = lambda _run, look: {"state": "RESUMING" if look == 1 else "SUCCEEDED"}
    assert follow(connection, submitted.run_id, submitted.steps, lambda _event: None).state == "SUCCEEDED"
    assert kubeflow.complaints
    kubeflow.complaints.clear()  # as the description has no such state
