"""A step ends with its runner, however that ends."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

STEP = """
import os, subprocess, sys, time
from components.events import step
with step("train"):
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    print(os.getpid(), helper.pid, server.pid, flush=True)
    time.sleep(float(sys.argv[1]))
"""

RUNNER = """
import subprocess, sys
from pathlib import Path
from components.lifeline import alive
with alive(Path(sys.argv[1])):
    subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[3]], check=True)
"""


@pytest.fixture
def events(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    path.touch()
    monkeypatch.setenv("MSCFLOW_EVENTS", str(path))
    return path


def pids(process):
    return [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]


def test_a_step_and_its_helpers_end_when_the_runner_is_killed_but_not_the_endpoint(events):
    command = [sys.executable, "-c", RUNNER, str(events), STEP, "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as runner:
        step, helper, server = pids(runner)
        os.kill(runner.pid, signal.SIGKILL)
        gone, alive = psutil.wait_procs([step, helper], timeout=30)
        assert (len(gone), alive) == (2, [])
        assert server.is_running()
        server.kill()


def test_a_step_that_begins_after_its_runner_was_killed_ends_at_once(events):
    killed = RUNNER + "    import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", killed, str(events), "pass", ""], check=False).returncode == -9
    step = subprocess.run([sys.executable, "-c", STEP, "60"], stdout=subprocess.DEVNULL, check=False)
    assert step.returncode == -9


@pytest.mark.parametrize("runs", [True, False])
def test_a_step_comes_to_its_end_while_its_runner_lives_or_where_it_has_none(events, runs):
    alone = [sys.executable, "-c", STEP, "0.5"]
    command = [sys.executable, "-c", RUNNER, str(events), STEP, "0.5"] if runs else alone
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        _, helper, server = pids(process)
        assert process.wait(timeout=30) == 0
        for each in (helper, server):
            each.kill()
    assert '"event": "finished"' in events.read_text()
    assert [path.name for path in events.parent.iterdir()] == [events.name]
