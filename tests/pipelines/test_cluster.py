"""What a real Kubernetes API server says of the compiled pipelines; see `make test-cluster`."""

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as pb
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines.compile import PIPELINES, compile_pipeline

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(280)]


@pytest.fixture(params=PIPELINES)
def version(request, tmp_path):
    compile_pipeline(request.param, tmp_path / "pipeline.yaml")
    spec, platform = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    return {
        "apiVersion": "pipelines.kubeflow.org/v2beta1",
        "kind": "PipelineVersion",
        "metadata": {"name": f"{request.param}-1", "namespace": "default"},
        "spec": {"pipelineName": request.param, "pipelineSpec": spec, "platformSpec": platform},
    }


def test_the_api_server_takes_the_compiled_pipeline(crd_server, version):
    crd_server.check(version)


def test_the_api_server_refuses_what_is_misspelt(crd_server, version):
    version["spec"]["pipelineNam"] = version["spec"].pop("pipelineName")
    with pytest.raises(RuntimeError, match="pipelineNam"):
        crd_server.check(version)


def test_every_field_is_one_that_kfp_knows(version):
    """The API server does not look into both specs; KFP's own messages refuse a field that they do not know."""
    json_format.ParseDict(version["spec"]["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
    pods = version["spec"]["platformSpec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(pods) == set(version["spec"]["pipelineSpec"]["deploymentSpec"]["executors"])
    for config in pods.values():
        json_format.ParseDict(config, pb.KubernetesExecutorConfig())
    with pytest.raises(json_format.ParseError, match="emptyDirMount"):
        json_format.ParseDict({**config, "emptyDirMount": []}, pb.KubernetesExecutorConfig())
