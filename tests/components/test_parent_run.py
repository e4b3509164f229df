"""The tracked run that the steps of one pipeline run share, where each runs in a container of its own."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from components import tracking
from components.errors import SettingsError
from components.patience import RUN_VARIABLE, in_a_run

_STEP = """
import sys
from components import tracking
with tracking.tracked_run(sys.argv[1], sys.argv[2], kind="training"):
    print(tracking.parent_run(sys.argv[1]))
"""


@pytest.fixture
def name() -> str:
    return f"run-{uuid4().hex}"


def step_alone(uri: str, step: str, name: str) -> str:
    """Run a step in a process that knows nothing of others but the name of the run; give the run's id."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", _STEP, uri, step],
        env=environment | {RUN_VARIABLE: name},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def test_steps_that_share_no_environment_share_the_run(mlflow_uri: str, name: str):
    with ThreadPoolExecutor() as pool:
        parents = list(pool.map(lambda step: step_alone(mlflow_uri, step, name), ("search", "train")))
    assert parents[0] == parents[1]
    client = tracking.client(mlflow_uri)
    parent = client.get_run(parents[0])
    assert parent.data.tags[tracking.RUN_TAG] == name
    experiment = [parent.info.experiment_id]
    nested = client.search_runs(experiment, f"tags.`mlflow.parentRunId` = '{parents[0]}'")
    assert {run.info.run_name for run in nested} == {"search", "train"}
    assert len(client.search_runs(experiment, f"tags.`{tracking.RUN_TAG}` = '{name}'")) == 1


def test_of_runs_that_were_started_at_once_the_first_stays(mlflow_uri: str, name: str):
    first = tracking.start_parent(mlflow_uri, tracking.EXPERIMENT, name, {}, {tracking.RUN_TAG: name})
    tracking.start_parent(mlflow_uri, tracking.EXPERIMENT, name, {}, {tracking.RUN_TAG: name})
    assert tracking.named_parent(mlflow_uri, name) == first


def test_the_id_of_a_run_goes_before_its_name(sqlite_uri: str, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(RUN_VARIABLE, name)
    monkeypatch.setenv(tracking.RUN_ID_VARIABLE, "f" * 32)
    assert tracking.parent_run(sqlite_uri) == "f" * 32


def test_outside_of_a_run_there_is_none(sqlite_uri: str):
    assert tracking.parent_run(sqlite_uri) is None
    assert not in_a_run()


def test_a_name_that_no_run_can_have_is_refused(sqlite_uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(RUN_VARIABLE, "a' or 'b")
    assert in_a_run()
    with pytest.raises(SettingsError, match=r"MSCFLOW_RUN is 'a' or 'b'; give the name"):
        tracking.parent_run(sqlite_uri)
