"""A study as a pipeline: compiled, run on this machine step by step, and what it takes of a study's options."""

import json
import subprocess
import sys
from dataclasses import replace

import msgspec
import pytest

from components.culture import Modality, Task
from components.datasets.simulation import simulate
from components.errors import ObjectNotFound, TrainingError
from components.settings import load_settings
from components.storage import open_store
from pipelines.compile import compile_pipeline
from pipelines.study import steps
from pipelines.study.arguments import options_of, study_arguments
from pipelines.study.options import StudyOptions
from pipelines.study.results import FoldResult
from pipelines.study.run import prepare
from tests.pipelines.conftest import environment

RUN = """
import json, sys
from kfp import components, local
path, arguments, folder = sys.argv[1:]
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=folder)
components.load_component_from_file(path)(**json.loads(arguments))
"""
SMALL = {"training": {"weights": "none", "image_size": 32, "epochs": 1, "learning_rate": 1e-3}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    simulate(folder / "cultures", images=40, size=(64, 64), modality=Modality.SINGLE_STACK, seed=0)
    return folder


@pytest.fixture(scope="module")
def options(place):
    settings = load_settings(home=place / "home", store=str(place / "store"), **SMALL)
    return StudyOptions(
        sources=(str(place / "cultures"),),
        tasks=(Task.CONFLUENCE,),
        backbones=("shufflenet_v2",),
        modalities=None,
        protocols=("grouped",),
        leave_out=None,
        equalisations=("none",),
        clumps=("kept",),
        folds=2,
        out=place / "out",
        settings=settings,
        detection=settings,
    )


@pytest.fixture(scope="module")
def ran(place, options):
    """The store, after the compiled pipeline was run here: its exit handler, its resources and all."""
    compile_pipeline("study", place / "study.yaml")
    around = {
        "MSCFLOW_RUN": "run-1",
        "MSCFLOW_STORE": str(place / "store"),
        "MSCFLOW_HOME": str(place / "steps"),
        "MSCFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, place / "study.yaml", json.dumps(study_arguments(options)), place / "artifacts"],
        cwd=place,
        env=environment() | around,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return open_store(str(place / "store"))


@pytest.mark.slow
def test_its_folds_are_those_of_the_study_command_and_its_table_is_of_them(ran, options):
    keys = [job.unit.key for job in prepare(options).jobs]
    folds = [msgspec.json.decode(ran.read(f"folds/{key}.json"), type=FoldResult) for key in keys]
    (table,) = (info.key for info in ran.list("studies/") if info.key.endswith("table1.json"))
    (row,) = (row for row in json.loads(ran.read(table)) if row["cell"]["backbone"] == "shufflenet_v2")
    accuracies = [fold.figures["accuracy"] for fold in folds]
    assert row["figures"]["accuracy"]["mean"] == pytest.approx(sum(accuracies) / 2)
    assert b"<html" in ran.read(table.replace("table1.json", "report.html"))


@pytest.mark.slow
def test_a_fold_that_is_in_the_store_is_not_made_again(ran, options, tmp_path):
    key = prepare(options).jobs[0].unit.key
    before = ran.stat(f"folds/{key}.json")
    assert steps.make_fold(str(options.settings.store), "another-study", key, tmp_path) == {"key": key, "found": True}
    assert ran.stat(f"folds/{key}.json") == before
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_tables_are_made_of_the_folds_that_there_are(ran, options, tmp_path):
    planned = steps.plan(options)
    good, bad = planned["folds"]
    made = [{"key": good, "found": True}, {"key": bad, "found": False, "failed": "diverged"}]
    told = steps.put_together(replace(options, out=tmp_path / "out"), planned, made)
    assert told["folds"] == {"made": 0, "found": 1, "failed": 1}
    assert "(1 of 2 folds)" in (tmp_path / "out" / "table1.md").read_text()


def test_a_study_of_which_every_fold_failed_says_why(options):
    made = [{"key": key, "found": False, "failed": f"{key} diverged"} for key in "ab"]
    with pytest.raises(TrainingError, match="all 2 folds failed; the first: a diverged"):
        steps.put_together(options, {"study": "s", "versions": [], "quarantined": {}}, made)


def test_a_fold_that_no_study_planned_is_refused(options, tmp_path):
    with pytest.raises(ObjectNotFound):
        steps.make_fold(str(options.settings.store), "no-study", "no-key", tmp_path)


def as_kfp_hands_on(value):
    """Numbers inside of dictionaries and lists come back as floats."""
    if isinstance(value, dict):
        return {key: as_kfp_hands_on(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_kfp_hands_on(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def test_options_survive_the_way_through_the_pipeline(make_options, monkeypatch, tmp_path):
    detection = load_settings(task=Task.ABNORMAL_CELLS, preset="standard", detection={"positive": ("Flatten", "Dead")})
    given = make_options(
        tasks=tuple(Task),
        modalities=(Modality.SINGLE_STACK,),
        protocols=("grouped", "left_out"),
        leave_out="donor",
        clumps=("kept", "masked"),
        folds=3,
        settings=load_settings(preset="paper", training={"augmentations": "blur", "epochs": 7}),
        detection=detection,
    )
    monkeypatch.setenv("MSCFLOW_HOME", str(tmp_path / "of the step"))
    back = options_of(**as_kfp_hands_on(study_arguments(given)))
    assert back.out.is_relative_to(tmp_path / "of the step")
    same = replace(back, out=given.out, settings=given.settings, detection=given.detection)
    assert same == given
    for section in ("training", "search", "split", "detection", "data"):
        assert getattr(back.settings, section) == getattr(given.settings, section)
        assert getattr(back.detection, section) == getattr(given.detection, section)
