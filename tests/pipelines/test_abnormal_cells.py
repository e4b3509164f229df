"""The way to a detector of abnormal cells, as a user walks it: boxes in, a registered model and its report out."""

from pathlib import Path

import pytest

from .conftest import SMALL

SMALL_DETECTOR = [*SMALL[:4], "--set", "training.image_size=64", "--set", "training.epochs=1"]
TIMEOUT = 550
NO_FLOORS = [
    *("gate.min_recall=0", "gate.max_false_discovery=1", "gate.min_average_precision=0"),
    *("gate.margin=1", "gate.slice_margin=1"),
]


@pytest.fixture(scope="module")
def run(place, mscflow, ports):
    def call(*arguments):
        return mscflow(
            "run",
            "--task",
            "abnormal_cells",
            "--data",
            "cultures",
            *SMALL_DETECTOR,
            *ports,
            *arguments,
            cwd=place,
            timeout=TIMEOUT,
        )

    return call


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_gate_that_refuses_says_so_and_nothing_is_deployed(run):
    done = run()
    assert done.code == 3, done.err
    assert "endpoint" not in done.out
    assert "the gate refused the model: Of the abnormal cells" in done.err


@pytest.mark.slow
def test_it_ends_with_a_champion_that_serves(run):
    done = run("--json", *(part for floor in NO_FLOORS for part in ("--set", floor)))
    assert done.code == 0, done.err
    answer = done.json
    assert answer["model"]["name"] == "abnormal-cells"
    assert answer["model"]["aliases"] == ["champion"]
    assert answer["endpoint"]["digest"] == answer["prediction"]["digest"] == answer["model"]["digest"]
    assert answer["prediction"]["count"] == len(answer["prediction"]["cells"])
    assert all(counts["abnormal"] > 0 and counts["clean"] > 0 for counts in answer["split"].values())
    assert {"recall", "false_discovery_rate", "average_precision", "froc", "hit_rate"} <= set(answer["metrics"])
    page = Path(answer["report"]).read_text()
    assert answer["model"]["digest"] in page
    assert "<rect class=" in page


def test_a_label_that_no_box_has_is_refused_with_those_there_are(run):
    done = run("--positive", "Dead Cell", "--json")
    assert done.code == 2
    assert "no box is labelled 'Dead Cell'; there are 'Flatten'" in done.json["error"]


def test_a_backbone_without_scales_is_refused_before_anything_runs(place, mscflow):
    done = mscflow(
        "run", "--task", "abnormal_cells", "--data", "cultures", "--backbone", "vit", "--json", cwd=place
    )  # fmt: skip
    assert done.code == 2
    assert "training.backbone 'vit'" in done.json["error"]
    assert done.json["error"].count("mobilenet_v3") == 1


def test_multi_stack_is_refused(run):
    done = run("--modality", "multi_stack", "--json")
    assert done.code == 2
    assert "single_stack" in done.json["error"]
