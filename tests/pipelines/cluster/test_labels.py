import random

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.cluster import ClusterSettings
from pipelines.cluster.ending import with_end
from pipelines.cluster.labels import relabel
from pipelines.retrain import retrain_pipeline


@pytest.fixture(scope="module")
def spec():
    return json_format.MessageToDict(with_end(retrain_pipeline, ClusterSettings()).pipeline_spec)


def shuffled(spec, seed):
    """Number components and executors otherwise, as KFP's compiler does in another process."""
    names = list(spec["components"])
    others = [f"comp-{number}" for number in range(len(names))]
    random.Random(seed).shuffle(others)
    to = dict(zip(names, others, strict=True))
    made = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    renamed = pipeline_spec_pb2.PipelineSpec()
    renamed.CopyFrom(made)
    renamed.components.clear()
    renamed.deployment_spec["executors"].Clear()
    for name, component in made.components.items():
        part = renamed.components[to[name]]
        part.CopyFrom(component)
        if component.executor_label:
            part.executor_label = to[name].replace("comp", "exec")
            executor = made.deployment_spec.fields["executors"].struct_value.fields[component.executor_label]
            renamed.deployment_spec.fields["executors"].struct_value.fields[part.executor_label].CopyFrom(executor)
    for dag in (renamed.root.dag, *(each.dag for each in renamed.components.values() if each.HasField("dag"))):
        for task in dag.tasks.values():
            task.component_ref.name = to[task.component_ref.name]
    return renamed


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_compiler_numbered_them_the_names_are_the_same(spec, seed):
    plain = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    other = shuffled(spec, seed)
    assert other.SerializeToString(deterministic=True) != plain.SerializeToString(deterministic=True)
    relabel(plain)
    relabel(other)
    assert json_format.MessageToDict(other) == json_format.MessageToDict(plain)


def test_every_step_runs_the_function_of_its_name(spec):
    named = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    relabel(named)
    executors = json_format.MessageToDict(named)["deploymentSpec"]["executors"]
    assert {"exec-conclude", "exec-conclude-2", "exec-conclude-3"} <= set(executors)
    for label, executor in executors.items():
        assert executor["container"]["args"][-1] == label.split("-")[1]
