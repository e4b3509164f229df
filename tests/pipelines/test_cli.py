"""The command line as a user meets it: help, exit codes, errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = ["demo", "run", "data", "models", "report", "serve", "predict", "pipelines", "settings", "study"]
MODELS = ["list", "show", "promote", "approve", "rollback", "audit", "evidence"]
HEAVY = {"torch", "mlflow", "kserve", "kfp", "optuna", "sklearn", "matplotlib", "onnxruntime", "boto3"}


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS), ["data", "import"], *(["models", name] for name in MODELS)]
)
def test_each_command_has_help(mscflow, tmp_path, command):
    done = mscflow(*command, "--help", cwd=tmp_path)
    assert done.code == 0
    assert "Usage: mscflow" in done.out


def test_help_imports_nothing_heavy():
    code = f"import sys, pipelines.cli; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--data", "no/such/folder"], "no/such/folder"),
        (["run", "--data", ".", "--modality", "multi"], "'modality' is 'multi'"),
        (["run", "--data", ".", "--preset", "swift"], "'preset' is 'swift'"),
        (["run", "--data", ".", "--backbone", "vgg"], "training.backbone 'vgg'"),
        (["run", "--data", ".", "--set", "training.epochs"], "--set 'training.epochs'"),
        (["run", "--data", ".", "--set", "training.epochs=many"], "'training.epochs' is 'many'"),
        (["run"], "Missing option '--data'"),
        (["predict", "no.png"], "no.png"),
        (["predict", "here.png", "--url", "ftp://x"], "ftp://x"),
        (["data", "show", "nothing"], "nothing"),
        (["data", "checkout", "abcdef", "out"], "abcdef"),
        (["data", "simulate", "out", "--images", "-3"], "-3"),
        (["pipelines", "compile", "--output", "x.txt"], "x.txt"),
        (["serve", "--port", "70000"], "70000"),
    ],
)
def test_bad_input_is_one_line_that_names_it_and_exit_code_2(mscflow, tmp_path, arguments, said):
    (tmp_path / "here.png").write_bytes(b"")
    done = mscflow(*arguments, cwd=tmp_path)
    assert done.code == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err + done.out


def test_with_json_an_error_is_an_object_too(mscflow, tmp_path):
    done = mscflow("run", "--data", "missing", "--json", cwd=tmp_path)
    assert done.code == 2
    assert json.loads(done.out)["exit_code"] == 2
    assert "missing" in done.json["error"]


def test_a_home_that_cannot_be_written_is_named(mscflow, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "images").mkdir()
    done = mscflow("--home", tmp_path / "file", "run", "--data", tmp_path / "images", cwd=tmp_path)
    assert done.code == 2
    assert str(tmp_path / "file") in done.err
    assert "Traceback" not in done.err


def test_settings_of_the_environment_are_shown(mscflow, tmp_path):
    done = mscflow("settings", "--json", cwd=tmp_path, MSCFLOW_TRAINING__EPOCHS="7")
    assert done.json["training"]["epochs"] == 7


def test_data_goes_in_and_comes_out_the_same(mscflow, tmp_path: Path):
    made = mscflow("data", "simulate", "cultures", "--images", 20, "--size", 64, "--json", cwd=tmp_path)
    assert made.json["images"] == 20
    first = mscflow("data", "import", "cultures", "--ref", "clinic", "--json", cwd=tmp_path).json
    assert (first["images"], first["new_images"]) == (20, 20)
    again = mscflow("data", "import", "cultures", "--ref", "clinic", "--json", cwd=tmp_path).json
    assert (again["version"], again["new_images"], again["changed"]) == (first["version"], 0, False)
    assert mscflow("data", "checkout", "clinic", "out", cwd=tmp_path).code == 0
    back = mscflow("data", "snapshot", "out", "--ref", "copy", "--json", cwd=tmp_path).json
    assert back["version"] == first["version"]
    assert mscflow("data", "diff", "clinic", "copy", "--json", cwd=tmp_path).json["changes"] == []
    assert mscflow("data", "log", "clinic", "--json", cwd=tmp_path).json[0]["version"] == first["version"]
    assert sum(mscflow("data", "show", "clinic", "--json", cwd=tmp_path).json["classes"].values()) == 20
    assert mscflow("data", "verify", "--json", cwd=tmp_path).json["clean"]
    blob = next(path for path in (tmp_path / ".mscflow/store/blobs").rglob("*") if path.is_file())
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    done = mscflow("data", "verify", "--json", cwd=tmp_path)
    assert done.code == 1
    assert len(json.loads(done.out.splitlines()[0])["altered"]) == 1
