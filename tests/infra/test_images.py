"""The three images, run as on a cluster: a plain user, a read-only root, no capability; see `make test-cluster`."""

import ast
import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from components.endpoint.files import WantedModel, write_desired
from components.images import CONTROL, PREDICT, TRAIN
from tests.containers import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAMES = ("control", "train", "predict")
LIMITS = {"control": 900e6, "predict": 700e6}
# As a training step does it, of what a laptop's command line makes.
FIT = """
from pathlib import Path
from components.culture import Modality
from components.datasets import steps as data
from components.datasets.simulation.dataset import simulate
from components.settings import DataSettings, SplitSettings, TrainingSettings
from components.training.steps import train

home, source, store = Path("/tmp/mscflow"), Path("/tmp/cultures"), "/tmp/store"
simulate(source, images=32, modality=Modality.SINGLE_STACK, size=(64, 64), vessels=8)
version = data.snapshot(str(source), store, DataSettings(), Modality.SINGLE_STACK, home)["data_version"]
split = data.split(store, version, "cultures", SplitSettings())["split_id"]
settings = TrainingSettings(image_size=64, epochs=1, batch_size=8)
result = train(store_uri=store, split_id=split, modality=Modality.SINGLE_STACK, learning_rate=1e-3,
               settings=settings, output=Path("/tmp/out"), home=home)
print("loss", result["validation_loss"], (Path("/tmp/out") / "model.onnx").stat().st_size)
"""


def test_each_image_has_the_name_that_the_pipelines_use(images):
    assert images == {"control": CONTROL, "train": TRAIN, "predict": PREDICT}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_tells_its_commit_and_its_user(docker, images, name):
    (described,) = json.loads(docker("image", "inspect", images[name]))
    # Commits may have come while the tests ran.
    command = ["git", "-C", ROOT, "rev-list", "--max-count=50", "HEAD"]
    commits = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    labels = described["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") in commits
    assert described["Config"]["User"] == "10001:0"
    assert described["Size"] < LIMITS.get(name, float("inf"))


@pytest.mark.parametrize("name", NAMES)
def test_a_process_has_no_rights_and_one_place_to_write_to(docker, images, name):
    told = docker.run(images[name], "sh", "-c", "id -u; id -g; grep -E 'CapEff|NoNewPrivs' /proc/self/status")
    assert told.split() == ["10001", "0", "CapEff:", "0000000000000000", "NoNewPrivs:", "1"]
    writes = (
        "touch /tmp/x; for place in / /opt/mscflow /usr/local /var; do touch $place/x 2>/dev/null && echo $place; done"
    )
    assert docker.run(images[name], "sh", "-c", f"{writes}; true") == ""
    # Without a read-only root, too, nothing of the image is the user's to change.
    assert docker("run", "--rm", images[name], "sh", "-c", f"{writes}; true") == ""


@pytest.mark.parametrize(("name", "variable"), [("control", "CONTROL"), ("train", "TRAIN")])
def test_every_step_finds_in_its_image_what_it_imports(docker, images, name, variable):
    statements = sorted(step_imports(variable))
    assert len(statements) > 5
    docker.run(images[name], "python", "-c", "\n".join(statements))


@pytest.mark.parametrize(
    ("name", "absent"), [("control", ("torch", "torchvision")), ("predict", ("torch", "mlflow", "kfp", "matplotlib"))]
)
def test_an_image_holds_nothing_that_others_are_for(docker, images, name, absent):
    code = f"import importlib.util as u; print([n for n in {absent} if u.find_spec(n)])"
    assert docker.run(images[name], "python", "-c", code) == "[]"


def test_people_and_servers_have_their_commands_in_the_control_image(docker, images):
    assert "retrain" in docker.run(images["control"], "mscflow", "--help")
    assert docker.run(images["control"], "mlflow", "--version").startswith("mlflow, version")


def test_the_training_image_fits_a_model(docker, images):
    told = docker.run(images["train"], "python", "-c", FIT, options=["--shm-size=256m"])
    found = re.search(r"^loss (\d+\.\d+) (\d+)$", told, re.MULTILINE)
    assert found is not None, told
    assert 0 < float(found[1]) < 10
    assert int(found[2]) > 1_000_000


def test_the_predictor_serves_and_is_healthy_when_it_does(docker, images, make_bundle, png, tmp_path):
    digest = make_bundle(tmp_path / "bundle")
    tmp_path.chmod(0o777)  # the container's user is not this one
    write_desired(tmp_path, {"confluence-single-stack": WantedModel("/data/bundle", "1", digest)})
    predictor = docker.start(
        images["predict"],
        *("python", "-m", "serving", "--folder", "/data", "--host", "0.0.0.0"),  # noqa: S104  its own network
        options=[f"--volume={tmp_path}:/data"],
    )
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/v2/health/ready', timeout=5).status)"
    deadline = time.monotonic() + 120
    while predictor.health() != "healthy":
        assert predictor.state() == "running", predictor.logs()
        assert time.monotonic() < deadline, predictor.logs()
        time.sleep(0.5)
    assert predictor.exec("python", "-c", ask) == "200"


def test_a_predictor_without_a_model_is_not_healthy(docker, images, tmp_path):
    tmp_path.chmod(0o777)
    write_desired(tmp_path, {})
    options = [f"--volume={tmp_path}:/data", "--health-start-period=1s", "--health-interval=1s"]
    predictor = docker.start(images["predict"], "python", "-m", "serving", "--folder", "/data", options=options)
    deadline = time.monotonic() + 120
    while predictor.health() == "starting":
        assert time.monotonic() < deadline, predictor.logs()
        time.sleep(0.5)
    assert predictor.health() == "unhealthy"


@pytest.mark.parametrize("name", NAMES)
def test_the_list_beside_an_image_names_all_that_is_in_it(docker, images, name):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (ROOT / "dist" / "sbom" / f"{name}-python.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.from_version(json.loads(text)["specVersion"])).validate_str(text) is None
    listed = {part["purl"].split("?")[0] for part in json.loads(text)["components"] if "purl" in part}
    code = "import importlib.metadata as m\nfor d in m.distributions(): print(d.metadata['Name'].lower(), d.version)"
    installed = {tuple(line.split()) for line in docker.run(images[name], "python", "-c", code).splitlines()}
    names = {(purl.split("/")[-1].split("@")[0].replace("_", "-")) for purl in listed if purl.startswith("pkg:pypi")}
    assert {re.sub(r"[-_.]+", "-", package) for package, _ in installed} - {"mscflow"} <= names | {"pip"}
    versions = docker.run(images[name], "dpkg-query", "--show", "--showformat=${Version}", "libc6")
    assert f"pkg:deb/debian/libc6@{versions.replace('+', '%2B')}" in listed


def step_imports(variable: str) -> set[str]:
    """Give the imports in the bodies of all steps of one image, as statements; no more than a body travels."""
    found: set[str] = set()
    for path in [path for part in ("components", "pipelines") for path in Path(ROOT, part).rglob("component.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and variable in {
                ast.unparse(keyword.value)
                for each in node.decorator_list
                if isinstance(each, ast.Call)
                for keyword in each.keywords
            }:
                found |= {ast.unparse(each) for each in ast.walk(node) if isinstance(each, ast.Import | ast.ImportFrom)}
    return found
