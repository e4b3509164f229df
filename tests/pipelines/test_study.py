"""`mscflow study` as a user runs it: to its end, killed in the middle of a fold, and asked for what cannot be."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from .conftest import MSCFLOW, environment

SMALL = [
    *(
        "--data",
        "cultures",
        "--backbones",
        "shufflenet_v2",
        "--weights",
        "none",
        "--task",
        "confluence",
        "--folds",
        "2",
    ),
    *("--set", "training.image_size=32", "--set", "training.epochs=4", "--set", "search.trials=2"),
    *("--set", "search.epochs=1", "--set", "training.planes=texture", "--processes", "2"),
]
TIMEOUT = 240


@pytest.fixture(scope="module")
def whole(place, mscflow):
    done = mscflow("study", *SMALL, "--protocol", "both", "--out", "whole", "--json", cwd=place, timeout=TIMEOUT)
    assert done.code == 0, done.err
    return done


@pytest.mark.slow
class TestStudy:
    def test_it_answers_with_one_object_and_leaves_its_files(self, whole, place):
        told = whole.json
        assert told["folds"] == {"made": 4, "found": 0, "failed": 0}
        assert {"table1.md", "table1.csv", "table1.json", "report.html", "study.json"} == set(told["files"])
        assert all(Path(path).is_file() for path in told["files"].values())
        rows = {(row["cell"]["backbone"], row["cell"]["protocol"]): row for row in told["table_1"]}
        assert len(rows) == 2 * 3  # the network and both baselines by each protocol
        assert rows["shufflenet_v2", "grouped"]["paper"]["accuracy"] == [0.766, 0.041]
        assert len(rows["shufflenet_v2", "grouped"]["values"]["accuracy"]) == 2
        assert told["leak"][0]["gains"]["accuracy"]["mean"] == pytest.approx(
            rows["shufflenet_v2", "published"]["figures"]["accuracy"]["mean"]
            - rows["shufflenet_v2", "grouped"]["figures"]["accuracy"]["mean"]
        )
        assert not list((place / "whole" / "state").glob("*"))
        assert "Traceback" not in (place / "whole" / "log.txt").read_text()

    def test_progress_tells_each_fold_and_what_is_left(self, whole):
        assert "[  4/4]" in whole.err
        assert "at most" in whole.err
        assert "accuracy" in whole.err

    def test_every_scored_image_was_scored_once_and_never_trained_on(self, whole, place):
        folds = results(place / "whole", "single_stack-shufflenet_v2-grouped")
        paths = [path for fold in folds.values() for path in fold["answers"]["paths"]]
        assert len(paths) == len(set(paths)) == 60
        assert all(
            fold["images"]["train"] + fold["images"]["validation"] == 60 - fold["images"]["test"]
            for fold in folds.values()
        )
        assert len({fold["seed"] for fold in folds.values()}) == 2
        assert all(fold["trials"] == 2 and 1e-8 <= fold["learning_rate"] <= 1e-2 for fold in folds.values())

    def test_the_same_again_finds_all_and_tells_the_same(self, whole, place, mscflow):
        again = mscflow("study", *SMALL, "--protocol", "both", "--out", "whole", "--json", cwd=place)
        assert again.code == 0, again.err
        assert again.json["folds"] == {"made": 0, "found": 4, "failed": 0}
        assert again.json["table_1"] == whole.json["table_1"]

    def test_killed_in_the_middle_of_a_fold_it_goes_on_and_ends_in_the_same_figures(self, whole, place, mscflow):
        process = begin(place, "killed")
        wait_for(process, lambda: list((place / "killed" / "state").glob("*/checkpoint.pt")))
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert not alive
        assert list((place / "killed" / "state").glob("*/checkpoint.pt"))
        before = results(place / "killed", "single_stack-shufflenet_v2-grouped")
        assert len(before) < 2
        done = mscflow("study", *SMALL, "--out", "killed", "--json", cwd=place, timeout=TIMEOUT)
        assert done.code == 0, done.err
        assert done.json["folds"]["found"] == len(before)
        same = [plain(results(place / name, "single_stack-shufflenet_v2-grouped")) for name in ("whole", "killed")]
        assert same[0] == same[1]

    def test_while_it_runs_another_is_refused_and_ctrl_c_ends_it_with_its_workers(self, place, mscflow):
        process = begin(place, "stopped", "--set", "training.epochs=900")
        wait_for(process, lambda: list((place / "stopped" / "state").glob("*/*")))
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        second = mscflow("study", *SMALL, "--out", "stopped", cwd=place)
        assert second.code == 2
        assert "another study is at work there" in second.err
        # As a terminal does: to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "the same command continues from it" in said
        assert "Traceback" not in said
        assert not psutil.wait_procs(workers, timeout=10)[1]

    def test_a_fold_that_diverges_is_told_and_the_others_are_kept(self, place, mscflow):
        wild = [*SMALL, "--lr", "1e30", "--set", "training.epochs=2", "--set", "training.gradient_clip=1e30"]
        done = mscflow("study", *wild, "--out", "wild", "--json", cwd=place, timeout=TIMEOUT)
        assert done.code == 1
        told = json.loads(done.out.splitlines()[0])
        assert told["folds"]["failed"] == 2
        assert "diverged" in next(iter(told["failures"].values()))
        assert "2 of 2 folds failed" in done.err


def begin(place, out, *more):
    return subprocess.Popen(
        [MSCFLOW, "study", *SMALL, *more, "--out", out],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(process, happened):
    deadline = time.monotonic() + 90
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def results(out, cell):
    files = (out / "folds" / cell).glob("*.json")
    return {fold["fold"]: fold for fold in (json.loads(path.read_bytes()) for path in files)}


def plain(folds):
    """The folds without what the clock and the machine have put in."""
    for fold in folds.values():
        for epoch in fold["history"]:
            del epoch["seconds"]
        del fold["seconds"]
    return folds


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "nowhere"], "--data 'nowhere' is no folder"),
        (["--data", "few", "--backbones", "resnet51"], "--backbones 'resnet51' is not one of alexnet"),
        (
            ["--data", "few", "--modalities", "multi"],
            "--modalities 'multi' is not one of single_stack, multi_stack or all",
        ),
        (["--data", "few", "--folds", "1"], "'study.folds' is 1"),
        (["--data", "few", "--task", "cells"], "--task 'cells'"),
        (["--data", "few", "--set", "training.image_size=40", "--backbones", "inception_v3"], "needs 75 pixels"),
        (["--data", "few", "--folds", "9", "--backbones", "shufflenet_v2"], "9 folds need at least 9"),
        (["--data", "bare", "--backbones", "shufflenet_v2"], "no image in bare has a confluence class or a box"),
        (["--data", "few", "--leave-out", "lab", "--folds", "2", "--backbones", "shufflenet_v2"], "has no 'lab'"),
        (["--data", "few", "--out", "file"], "--out"),
    ],
)
def test_what_cannot_be_studied_is_refused_in_a_line(tmp_path, mscflow, png, arguments, said):
    rows = []
    for number in range(8):
        for folder in ("few", "bare"):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{number}.png").write_bytes(png(number, (48, 48)))
        rows.append(f"{number}.png,{number % 2 + 1},g{number}\n")
    (tmp_path / "few" / "labels.csv").write_text("file,class,group\n" + "".join(rows))
    (tmp_path / "file").write_text("")
    done = mscflow("study", "--weights", "none", *arguments, cwd=tmp_path)
    assert done.code == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err + done.out
