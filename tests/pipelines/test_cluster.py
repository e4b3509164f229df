"""What a real Kubernetes API server says of the compiled pipeline; see `make test-cluster`."""

import pytest
import yaml

from pipelines.compile import compile_pipeline

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(280)]


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


def test_the_api_server_takes_the_compiled_pipeline(crd_server, version):
    crd_server.check(version)


def test_the_api_server_refuses_what_is_misspelt(crd_server, version):
    version["spec"]["pipelineNam"] = version["spec"].pop("pipelineName")
    with pytest.raises(RuntimeError, match="pipelineNam"):
        crd_server.check(version)
