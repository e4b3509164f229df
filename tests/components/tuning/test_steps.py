import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components import events
from components.errors import TrainingError
from components.evaluation.inputs import read_search
from components.imaging import Preprocessing
from components.models.weights import Weights
from components.settings import SearchSettings, TrainingSettings
from components.tracking import client, end_parent, start_parent
from components.tuning.steps import find_rate, search


def run(cultures, folder: Path, *, uri: str | None = None, training: Any = None, **changes: Any) -> dict[str, Any]:
    settings = SearchSettings(**{"trials": 3, "epochs": 2, **changes})
    chosen = TrainingSettings(**{"backbone": "tiny", "image_size": 32, "batch_size": 8, **(training or {})})
    return search(cultures.store, cultures.split_id, settings, chosen, folder / "trials.json", folder / "home", uri)


def written(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "trials.json").read_bytes())
    return told


@pytest.mark.usefixtures("tiny_backbone")
class TestSearch:
    def test_it_gives_the_best_of_its_trials_and_tells_of_all(self, cultures, tmp_path: Path) -> None:
        result = run(cultures, tmp_path, trials=4)
        told = written(tmp_path)
        assert (result["trials"], result["resumed"]) == (4, 0)
        assert result["completed"] + result["pruned"] == 4
        completed = [trial for trial in told["trials"] if trial["state"] == "complete"]
        best = min(completed, key=lambda trial: trial["value"])
        assert (result["best_lr"], result["best_value"]) == (best["lr"], best["value"])
        assert all(trial["epochs"] == 2 and trial["seconds"] > 0 for trial in completed)
        assert (told["sampler"], told["scale"], told["range"]) == ("tpe", "log", [1e-8, 1e-2])
        assert [trial.lr for trial in read_search(tmp_path / "trials.json").trials] == [
            trial["lr"] for trial in told["trials"]
        ]

    def test_the_same_search_on_images_at_hand_finds_the_same_rate(self, cultures, tmp_path: Path) -> None:
        from components.training.data import load_data

        expected = run(cultures, tmp_path)["best_lr"]
        training = TrainingSettings(backbone="tiny", image_size=32, batch_size=8)
        found = [
            find_rate(
                "a fold",
                load,
                SearchSettings(trials=3, epochs=2),
                training,
                Weights("none"),
                tmp_path / "folds",
            )
            for load in (
                lambda: load_data(
                    cultures.store, cultures.split_id, Preprocessing(size=32, planes="texture"), tmp_path
                ),
                lambda: pytest.fail("a finished search needs no images"),
            )
        ]
        assert found == [expected, expected]

    def test_equal_settings_give_equal_trials(self, cultures, tmp_path: Path) -> None:
        first, second = (run(cultures, tmp_path / name) for name in "ab")
        assert first == second
        assert [trial["value"] for trial in written(tmp_path / "a")["trials"]] == [
            trial["value"] for trial in written(tmp_path / "b")["trials"]
        ]

    def test_a_finished_search_returns_at_once_and_a_longer_one_goes_on(self, cultures, tmp_path: Path) -> None:
        first = run(cultures, tmp_path)
        trials = written(tmp_path)["trials"]
        again = run(cultures, tmp_path)
        assert again == {**first, "resumed": 3}
        assert written(tmp_path)["trials"] == trials
        assert run(cultures, tmp_path, trials=4)["resumed"] == 3
        assert written(tmp_path)["trials"][:3] == trials

    def test_a_fixed_rate_needs_no_search(self, cultures, tmp_path: Path) -> None:
        result = run(cultures, tmp_path, training={"learning_rate": 2e-3})
        assert (result["trials"], result["best_lr"]) == (0, 2e-3)
        assert read_search(tmp_path / "trials.json").trials == ()

    def test_a_rate_that_diverges_costs_a_trial_and_no_more(self, cultures, tmp_path: Path) -> None:
        result = run(cultures, tmp_path, low=1e-4, high=1e32, trials=5)
        states = [trial["state"] for trial in written(tmp_path)["trials"]]
        assert "fail" in states
        assert result["trials"] == len(states) == 5
        assert result["best_lr"] < 1e10

    def test_if_all_rates_diverge_it_says_so(self, cultures, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match=r"all 2 trials diverged.*lower search.high 1e\+32"):
            run(cultures, tmp_path, low=1e30, high=1e32, trials=2)
        assert not (tmp_path / "trials.json").exists()

    def test_each_trial_is_a_run_within_the_pipelines_run(
        self, cultures, tmp_path: Path, sqlite_uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parent = start_parent(sqlite_uri, "mscflow", "a run", {})
        monkeypatch.setenv("MLFLOW_RUN_ID", parent)
        run(cultures, tmp_path, uri=sqlite_uri, prune=False)
        end_parent(sqlite_uri, parent, "FINISHED")
        experiment = client(sqlite_uri).get_run(parent).info.experiment_id
        runs = client(sqlite_uri).search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
        rates = {float(each.data.params["learning_rate"]) for each in runs}
        assert rates == {trial["lr"] for trial in written(tmp_path)["trials"]}
        assert {each.info.status for each in runs} == {"FINISHED"}
        for each in runs:
            losses = client(sqlite_uri).get_metric_history(each.info.run_id, "validation_loss")
            assert [loss.step for loss in losses] == [1, 2]

    def test_progress_names_the_best_so_far(self, cultures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(events.EVENTS_VARIABLE, str(tmp_path / "events"))
        result = run(cultures, tmp_path)
        told = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
        last = [each for each in told if each.get("task") == "search"][-1]
        assert (last["done"], last["total"], last["unit"]) == (3, 3, "trials")
        assert f"{result['best_value']:.3f}" in last["note"]


# A search in a process of its own, to be killed; the tiny backbone is that of these tests.
SCRIPT = """
import sys
from pathlib import Path
from torch import nn
from components.models.backbones import BACKBONES, Backbone
from components.settings import SearchSettings, TrainingSettings
from components.tuning.steps import search

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU())

BACKBONES["tiny"] = Backbone(build, channels=16)
store, split_id, folder = sys.argv[1:]
training = TrainingSettings(backbone="tiny", image_size=32, batch_size=8)
output, home = Path(folder, "trials.json"), Path(folder, "home")
search(store, split_id, SearchSettings(trials=4, epochs=8, prune=False), training, output, home)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_backbone")
def test_killed_in_mid_trial_and_started_again_it_ends_with_the_same_trials(cultures, tmp_path: Path) -> None:
    run(cultures, tmp_path / "undisturbed", trials=4, epochs=8, prune=False)
    disturbed = tmp_path / "disturbed"

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, cultures.store, cultures.split_id, str(disturbed)]
        return subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE, text=True)

    process = start()
    while finished(disturbed) == 0 and process.poll() is None:
        time.sleep(0.002)
    time.sleep(0.05)
    assert process.poll() is None, "else there is nothing to kill"
    process.kill()
    process.communicate()
    with start() as process:
        _, err = process.communicate()
        assert process.returncode == 0, err
    one, other = written(tmp_path / "undisturbed"), written(disturbed)
    assert (one["resumed"], other["resumed"] > 0) == (0, True)
    for each in (*one["trials"], *other["trials"]):
        del each["seconds"]
    assert other["trials"] == one["trials"]


def finished(folder: Path) -> int:
    """Count the trials that a journal has an end of."""
    journals = list((folder / "home" / "searches").glob("*.journal"))
    return journals[0].read_text().count('"state":1') if journals else 0
