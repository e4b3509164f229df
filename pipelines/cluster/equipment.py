"""Equipping a compiled pipeline for a cluster: resources, pods, retries."""

from collections.abc import Iterator
from typing import Any

from components.cluster import ClusterSettings
from pipelines.cluster.handing import hand_down, placeholder
from pipelines.cluster.parameters import cluster_arguments, kind_of, resources_of
from pipelines.cluster.pods import pod, time_of


def equip(spec: Any, platform: Any, cluster: ClusterSettings) -> None:
    """Add to a pipeline what each of its steps needs on a cluster.

    Args:
        spec: The ``PipelineSpec``, whose root declares ``cluster_arguments``; changed in place.
        platform: Its ``PlatformSpec``; changed in place.
        cluster: How steps run.
    """
    from google.protobuf import json_format

    hand_down(spec, cluster_arguments(cluster))
    pods = platform.platforms["kubernetes"].deployment_spec.executors
    for label, container in _containers(spec):
        _ask(container.get_or_create_struct("resources"), resources_of(kind_of(label)))
        pods[label].update(json_format.MessageToDict(pod(kind_of(label), cluster)))
    for task in _steps(spec):
        _retry(task.retry_policy, time_of(kind_of(task.component_ref.name), cluster), cluster)
    for task in _tasks(spec):
        if task.HasField("parameter_iterator"):
            task.iterator_policy.parallelism_limit = cluster.parallel


def put_images(spec: Any, images: dict[str, str]) -> None:
    """Put other references in the place of the images that the steps were written with, by these.

    Args:
        spec: The ``PipelineSpec``; changed in place.
        images: What to put there, by what is there.
    """
    for _, container in _containers(spec):
        container["image"] = images.get(container["image"], container["image"])


def images_of(spec: Any) -> list[str]:
    """Give the images that the steps run in, each once."""
    return sorted({container["image"] for _, container in _containers(spec)})


def _containers(spec: Any) -> Iterator[tuple[str, Any]]:
    for label, executor in spec.deployment_spec["executors"].items():
        yield label, executor["container"]


def _steps(spec: Any) -> Iterator[Any]:
    """Give every task that is a step, not a nested pipeline."""
    for task in _tasks(spec):
        if not spec.components[task.component_ref.name].HasField("dag"):
            yield task


def _tasks(spec: Any) -> Iterator[Any]:
    """Give every task."""
    dags = [component.dag for component in spec.components.values() if component.HasField("dag")]
    for dag in (spec.root.dag, *dags):
        yield from dag.tasks.values()


def _ask(resources: Any, named: dict[str, str]) -> None:
    resources["resourceCpuLimit"] = placeholder(named["cpu_limit"])
    resources["resourceMemoryLimit"] = placeholder(named["memory_limit"])
    if "accelerator_count" in named:
        accelerator = resources.get_or_create_struct("accelerator")
        accelerator["resourceCount"] = placeholder(named["accelerator_count"])
        accelerator["resourceType"] = placeholder(named["accelerator_type"])


def _retry(policy: Any, seconds: int, cluster: ClusterSettings) -> None:
    policy.max_retry_count = cluster.retries
    policy.backoff_factor = 2.0
    policy.backoff_duration.FromSeconds(cluster.backoff)
    # Argo counts it from the first try's start, and ends whatever runs when it is over: it holds all tries and pauses.
    pauses = cluster.backoff * (2**cluster.retries - 1)
    policy.backoff_max_duration.FromSeconds((cluster.retries + 1) * seconds + pauses)
