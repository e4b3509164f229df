"""`mscflow pipelines compile` as a user gives it."""

import json

import pytest
import yaml

DIGESTS = {name: f"registry/{name}@sha256:{'0' * 64}" for name in ("train", "control", "predict")}


def test_it_writes_the_pipeline_with_the_settings_and_images_that_were_given(tmp_path, mscflow):
    (tmp_path / "digests.json").write_text(json.dumps(DIGESTS))
    given = ["--image-digests", "digests.json", "--set", "cluster.train.gpus=8", "--set", "cluster.retries=5"]
    done = mscflow("pipelines", "compile", "study", *given, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json == {
        "pipeline": "study",
        "output": "study.yaml",
        "images": [DIGESTS["control"], DIGESTS["train"]],
        "warnings": [],
    }
    spec, _ = yaml.safe_load_all((tmp_path / "study.yaml").read_text())
    assert spec["root"]["inputDefinitions"]["parameters"]["train_gpus"]["defaultValue"] == "8"
    assert spec["root"]["dag"]["tasks"]["end"]["retryPolicy"]["maxRetryCount"] == 5


def test_an_image_that_may_be_moved_is_warned_of(tmp_path, mscflow):
    own = {"MSCFLOW_CONTROL_IMAGE": DIGESTS["control"], "MSCFLOW_TRAIN_IMAGE": "registry/train:latest"}
    done = mscflow("pipelines", "compile", "--output", "t.yaml", cwd=tmp_path, **own)
    assert done.code == 0
    (warning,) = [line for line in done.err.splitlines() if line.startswith("mscflow:")]
    assert "'registry/train:latest' is named by a tag" in warning


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "train.json"], "--output 'train.json' must end in .yaml or .yml"),
        (["--image-digests", "none.json"], "--image-digests 'none.json' cannot be read"),
        (["--set", "cluster.train.memory=lots"], "'cluster.train.memory' is 'lots'"),
        (["--set", "cluster.retries=-1"], "'cluster.retries'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path, mscflow, arguments, said):
    done = mscflow("pipelines", "compile", *arguments, cwd=tmp_path)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
