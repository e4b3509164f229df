"""The commands for Kubeflow as a person meets them: what is printed, how they end, what Ctrl-C does."""

import json
import signal
import subprocess
import sys
import threading

import pytest

from pipelines.cli import main
from tests.pipelines.conftest import MSCFLOW, Done, environment

from .keeping import task

SOURCE = "s3://cultures/2026"
SUCCEEDED = {"state": "SUCCEEDED", "tasks": [task(step, "SUCCEEDED", 1, 3) for step in ("promote", "deploy", "verify")]}


@pytest.fixture
def around(kubeflow):
    """The environment of a person whose work is on S3 and Kubeflow."""
    api = {"MSCFLOW_KUBEFLOW__URL": kubeflow.url, "MSCFLOW_KUBEFLOW__INTERVAL": "0.05", "MSCFLOW_DATA__REF": "clinic"}
    return {**api, "MSCFLOW_STORE": "s3://cultures/store"}


@pytest.fixture
def command(tmp_path, around, monkeypatch, capsys):
    """Runs the command in this process, which has what it needs loaded already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda _signal, _handler: None)  # as that would outlast the command

    def run(*arguments, **variables):
        for name, value in {**around, **variables}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["mscflow", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture
def submit(command, compiled):
    return lambda *more: command("pipelines", "submit", "--data", SOURCE, "--file", compiled["train"], *more)


@pytest.mark.parametrize(
    "words",
    [["submit"], ["cancel"], ["schedule"], *(["schedule", word] for word in ("create", "list", "pause", "delete"))],
)
def test_each_command_has_help_with_examples(command, words):
    done = command("pipelines", *words, "--help")
    assert done.code == 0
    assert words == ["schedule"] or "mscflow pipelines " + " ".join(words) in done.out.partition("Examples:")[2]


def test_run_takes_the_same_images_to_the_cluster(kubeflow, command):
    kubeflow.becomes = lambda _run, _look: SUCCEEDED
    done = command("run", "--backend", "kubeflow", "--data", SOURCE, "--set", "training.epochs=3", "--json")
    assert done.code == 0, done.err
    answer = done.json
    (run,) = kubeflow.kept["runs"].values()
    assert (answer["run"], answer["state"]) == (run["run_id"], "SUCCEEDED")
    assert answer["steps"][0] == {"step": "promote", "state": "SUCCEEDED", "seconds": 2}
    assert run["runtime_config"]["parameters"]["training"]["epochs"] == 3
    assert answer["link"] in done.err
    assert "is named by a tag" in done.err


def test_a_study_takes_its_folds_to_the_cluster(kubeflow, command):
    done = command("study", "--backend", "kubeflow", "--data", SOURCE, "--backbones", "shufflenet_v2", "--folds", "3")
    assert done.code == 0, done.err
    (run,) = kubeflow.kept["runs"].values()
    given = run["runtime_config"]["parameters"]
    assert (given["sources"], given["asked"]["folds"]) == ([SOURCE], 3)


@pytest.mark.parametrize(
    ("becomes", "code", "said"),
    [
        (SUCCEEDED, 0, "it succeeded"),
        ({"state": "SUCCEEDED", "tasks": SUCCEEDED["tasks"][:1]}, 3, "the gate refused the model"),
        (
            {"state": "FAILED", "tasks": [task("train", "FAILED", error="exit code 137")]},
            1,
            "'train' failed: exit code 137",
        ),
        ({"state": "CANCELED"}, 1, "it was cancelled"),
    ],
)
def test_it_ends_as_the_run_does(kubeflow, submit, becomes, code, said):
    kubeflow.becomes = lambda _run, _look: becomes
    done = submit()
    assert done.code == code
    assert said in done.out + done.err
    (run,) = kubeflow.kept["runs"]
    assert f"{kubeflow.url}/#/runs/details/{run}" in done.err


def test_detached_it_ends_once_the_run_is_started(kubeflow, submit):
    done = submit("--detach", "--json")
    assert done.code == 0
    assert done.json["run"] in kubeflow.kept["runs"]
    assert "run_service_get_run" not in kubeflow.asked


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["submit"], "--data"),
        (["submit", "--data", "cultures/"], "'cultures/' is on this machine"),
        (["submit", "retrain", "--batch", SOURCE, "--watched", SOURCE], "not both"),
        (["submit", "--run", "no-such-run"], "runs no-such-run not found"),
        (["cancel", "no-such-run"], "runs no-such-run not found"),
        (["schedule", "create", SOURCE, "--every", "often"], "--every 'often'"),
        (["schedule", "create", SOURCE, "--every", "1h", "--cron", "0 3 * * *"], "not both"),
        (["schedule", "pause", "retrain-x"], "'retrain-x'"),
        (["schedule", "list", "--url", "localhost:8080"], "'kubeflow.url' is 'localhost:8080'"),
    ],
)
def test_bad_input_is_one_line_that_names_it(command, arguments, said):
    done = command("pipelines", *arguments)
    assert done.code == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("cancel", [False, True])
def test_ctrl_c_leaves_the_run_going_unless_told_otherwise(kubeflow, around, compiled, tmp_path, command, cancel):
    looked = threading.Event()
    kubeflow.on_look = lambda _look: looked.set()
    kubeflow.becomes = lambda _run, _look: {"state": "RUNNING"}
    arguments = ["pipelines", "submit", "--data", SOURCE, "--file", compiled["train"]]
    with subprocess.Popen(
        [MSCFLOW, *map(str, arguments), *["--cancel-on-interrupt"] * cancel],
        cwd=tmp_path,
        env={**environment(), **around},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert looked.wait(60)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    (run,) = kubeflow.kept["runs"].values()
    assert process.returncode == 130
    assert run["state"] == ("CANCELING" if cancel else "RUNNING")
    if not cancel:
        assert f"mscflow pipelines cancel {run['run_id']}" in told
        kubeflow.becomes = lambda _run, _look: SUCCEEDED
        done = command("pipelines", "submit", "--run", run["run_id"], "--json")
        assert (done.code, done.json["run"]) == (0, run["run_id"])


def test_a_schedule_is_made_listed_paused_and_deleted(kubeflow, command, compiled):
    create = ["create", "s3://cultures/incoming", "--cron", "0 3 * * *", "--file", compiled["retrain"], "--json"]
    outcomes = [command("pipelines", "schedule", *create).json["outcome"] for _ in range(2)]
    assert outcomes == ["created", "unchanged"]
    assert command("pipelines", "schedule", "pause", "retrain-clinic").code == 0
    (listed,) = command("pipelines", "schedule", "list", "--json").json
    assert (listed["name"], listed["when"], listed["paused"]) == ("retrain-clinic", "cron 0 0 3 * * * (UTC)", True)
    done = command("pipelines", "schedule", "delete", "retrain-clinic", "--json")
    assert done.json["deleted"]
    assert kubeflow.kept["recurring"] == {}


def test_a_token_is_in_nothing_that_is_printed(kubeflow, command):
    kubeflow.token = "of-the-server"
    done = command("pipelines", "schedule", "list", MSCFLOW_KUBEFLOW_TOKEN="of-another")
    assert done.code == 2
    assert "of-another" not in done.out + done.err
    assert json.loads(command("settings", "--json", MSCFLOW_KUBEFLOW_TOKEN="of-another").out)["kubeflow"]["url"]
