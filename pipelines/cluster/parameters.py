"""The parameters by which whoever starts a run tells what each kind of step gets; KFP needs each one by itself."""

import re
from enum import StrEnum
from typing import Any

from components.cluster import ClusterSettings, StepSettings

GPU_TYPE = "gpu_type"


class Kind(StrEnum):
    """What steps have the same needs."""

    CONTROL = "control"
    SEARCH = "search"
    TRAIN = "train"

    @property
    def learns(self) -> bool:
        """Whether its steps fit networks."""
        return self is not Kind.CONTROL


_KINDS = {"search": Kind.SEARCH, "train": Kind.TRAIN, "fold": Kind.TRAIN}


def kind_of(label: str) -> Kind:
    """Tell what a step needs, from its label in a compiled pipeline, such as ``exec-train`` or ``comp-conclude-2``."""
    name = re.sub(r"-\d+$", "", label).partition("-")[2]
    return _KINDS.get(name, Kind.CONTROL)


def cluster_arguments(cluster: ClusterSettings) -> dict[str, Any]:
    """Give the parameters that every compiled pipeline has beside its own, such as ``train_cpu``.

    Numbers are text, as KFP takes only text for a pod's resources from a parameter.
    """
    given: dict[str, Any] = {GPU_TYPE: cluster.gpu_type}
    for kind in Kind:
        section: StepSettings = getattr(cluster, kind)
        given |= {
            f"{kind}_cpu": section.cpu,
            f"{kind}_memory": section.memory,
            f"{kind}_nodes": dict(section.nodes),
            f"{kind}_tolerations": [dict(toleration) for toleration in section.tolerations],
        }
        if kind.learns:
            given[f"{kind}_gpus"] = str(section.gpus)
    return given


def resources_of(kind: Kind) -> dict[str, str]:
    """Name the parameter of each resource of a step's container, as KFP calls those in a task."""
    named = {"cpu_limit": f"{kind}_cpu", "memory_limit": f"{kind}_memory"}
    return named | ({"accelerator_count": f"{kind}_gpus", "accelerator_type": GPU_TYPE} if kind.learns else {})


def placing_of(kind: Kind) -> tuple[str, str]:
    """Name the parameters that say where a step's pod may run: labels of nodes, and tolerations."""
    return f"{kind}_nodes", f"{kind}_tolerations"
