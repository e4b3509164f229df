"""The whole path as a user walks it: images in, a served model out, on simulated cultures.

One home is shared by the tests of this file, in the order in which they stand: a first run, the same
again, a model that the gate refuses, one that is released over it, and the way back.
"""

import json
import socket
from pathlib import Path

import pytest

from pipelines.steps import STEPS

from .conftest import NO_FLOORS, SMALL

pytestmark = pytest.mark.slow

TIMEOUT = 280


@pytest.fixture(scope="module")
def run(place, ports, mscflow):
    def call(*arguments):
        return mscflow("run", "--data", "cultures", *SMALL, *ports, "--json", *arguments, cwd=place, timeout=TIMEOUT)

    return call


@pytest.fixture(scope="module")
def first(run):
    done = run(*NO_FLOORS)
    assert done.code == 0, done.err
    return done.json


def test_a_run_ends_with_a_prediction_of_the_released_model(first):
    assert first["gate"]["passed"]
    assert first["model"]["aliases"] == ["champion"]
    assert first["prediction"]["model_version"] == first["model"]["version"] == "1"
    assert first["prediction"]["digest"] == first["model"]["digest"]
    assert first["prediction"]["data_version"] == first["data_version"]


def test_the_answer_has_what_its_contract_names(first):
    assert sum(sum(counts.values()) for counts in first["split"].values()) == 60
    assert first["search"]["trials"] == 2
    assert 1e-8 <= first["search"]["best_lr"] <= 1e-2
    assert {"accuracy", "within_one_class", "roc_auc_micro", "pr_auc_micro", "n"} <= set(first["metrics"])
    assert set(first["seconds"]) == {*STEPS, "total"}
    page = Path(first["report"]).read_text()
    assert first["model"]["digest"] in page
    assert "<script" not in page


def test_the_model_holds_no_code(first):
    folder = Path(first["home"]) / "models" / first["model"]["digest"]
    assert {path.name for path in folder.iterdir()} == {
        "model.onnx",
        "bundle.json",
        "known.png",
        "evidence.json",
        "novelty.npz",
    }


def test_mlflow_has_a_parent_run_with_one_nested_run_a_trial(first):
    from components import tracking

    client = tracking.client(f"sqlite:///{first['home']}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("mscflow").experiment_id])
    parents = [one for one in runs if one.data.tags["kind"] == "pipeline"]
    assert [one.info.status for one in parents] == ["FINISHED"]
    nested = [one for one in runs if one.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    kinds = sorted(one.data.tags["kind"] for one in nested)
    assert kinds.count("trial") == 2
    assert "training" in kinds


def test_the_same_again_comes_from_the_cache(first, run):
    again = run(*NO_FLOORS)
    assert again.code == 0, again.err
    assert set(again.json["cached"]) == {"validate", "search", "train", "evaluate"}
    assert again.json["model"] == first["model"]


def test_a_refused_model_leaves_the_champion_serving(first, run, place, mscflow):
    done = run("--set", "training.seed=1", *NO_FLOORS, "--set", "gate.min_accuracy=1")
    assert done.code == 3
    assert "the gate refused the model" in done.err
    answer = json.loads(done.out.splitlines()[0])
    assert answer["model"]["aliases"] == ["challenger"]
    assert answer["gate"]["reasons"]
    assert answer["endpoint"] is None
    (row,) = mscflow("predict", first["prediction"]["image"], "--json", cwd=place).json
    assert row["model_version"] == first["model"]["version"]


def test_a_released_model_replaces_the_champion_and_can_be_rolled_back(first, run, place, mscflow):
    done = run("--set", "training.seed=1", *NO_FLOORS)
    assert done.code == 0, done.err
    assert done.json["endpoint"]["swapped"]
    assert done.json["prediction"]["model_version"] == done.json["model"]["version"] == "2"
    back = mscflow("models", "rollback", "--reason", "a test", "--json", cwd=place)
    assert back.code == 0, back.err
    assert back.json["version"] == "1"
    (row,) = mscflow("predict", first["prediction"]["image"], "--json", cwd=place).json
    assert row["digest"] == first["model"]["digest"]
    rows = mscflow("models", "list", "--json", cwd=place).json
    assert {row["version"]: row["aliases"] for row in rows}["1"] == ["champion"]


def test_predict_on_a_folder_names_what_cannot_be_used(first, place, mscflow):
    folder = place / "mixed"
    folder.mkdir()
    (folder / "good.png").write_bytes(Path(first["prediction"]["image"]).read_bytes())
    (folder / "broken.png").write_bytes(b"no image")
    done = mscflow("predict", folder, "--json", cwd=place)
    assert done.code == 2
    rows = json.loads(done.out.splitlines()[0])
    assert [("error" in row) for row in rows] == [True, False]
    assert "broken.png" in done.err


def test_a_taken_port_is_told_before_any_work(first, place, mscflow):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        home = place / "other"
        done = mscflow("--home", home, "run", "--data", "cultures", "--port", port, cwd=place)
    assert done.code == 2
    assert f"port {port}" in done.err
    assert not (home / "runs").exists()
