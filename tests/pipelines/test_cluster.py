"""What a real Kubernetes API server says of the compiled pipeline; see `make test-cluster`.

The tools that start such a server are looked for in the folder that MSCFLOW_K8S_TOOLS names, by
default ../shared/k8s beside the project.
"""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines.compile import compile_pipeline

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(280)]

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ.get("MSCFLOW_K8S_TOOLS", ROOT.parent / "shared" / "k8s"))


@pytest.fixture(scope="module")
def check():
    server = TOOLS / "crd-server"
    if not server.is_file():
        pytest.skip(f"no API server: {server} is not there; name the tools' folder in MSCFLOW_K8S_TOOLS")
    subprocess.run([server, "start"], check=True, capture_output=True, timeout=240)

    def run(manifest: dict[str, object], folder: Path) -> subprocess.CompletedProcess[str]:
        path = folder / "manifest.yaml"
        path.write_text(yaml.safe_dump(manifest))
        return subprocess.run([server, "check", path], capture_output=True, text=True, timeout=60, check=False)

    yield run
    subprocess.run([server, "stop"], check=True, capture_output=True, timeout=60)


@pytest.fixture
def version(tmp_path):
    compile_pipeline("train", tmp_path / "train.yaml")
    spec, _ = yaml.safe_load_all((tmp_path / "train.yaml").read_text())
    return {
        "apiVersion": "pipelines.kubeflow.org/v2beta1",
        "kind": "PipelineVersion",
        "metadata": {"name": "train-1", "namespace": "default"},
        "spec": {"pipelineName": "train", "pipelineSpec": spec},
    }


def test_the_api_server_takes_the_compiled_pipeline(check, version, tmp_path):
    done = check(version, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_api_server_refuses_what_is_misspelt(check, version, tmp_path):
    version["spec"]["pipelineNam"] = version["spec"].pop("pipelineName")
    done = check(version, tmp_path)
    assert done.returncode == 1
    assert "pipelineNam" in done.stdout + done.stderr
