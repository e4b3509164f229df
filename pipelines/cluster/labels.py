"""Names of a compiled pipeline's parts that are the same in each compilation."""

import re
from collections import Counter
from typing import Any


def relabel(spec: Any) -> None:
    """Name each component, and its executor, after the task that it does: conclude, conclude-2, conclude-3.

    KFP's compiler numbers them in an order that changes from one process to the next: the same pipeline would be other
    bytes, and so another version and another recurring run.

    Args:
        spec: The ``PipelineSpec``; changed in place.
    """
    from google.protobuf.struct_pb2 import Struct

    names: dict[str, str] = {}
    # KFP's loader takes a pipeline for that step alone which has its name, as train does.
    _name(spec, spec.root.dag, names, Counter([spec.pipeline_info.name]))
    executors, named = spec.deployment_spec.fields["executors"].struct_value, Struct()
    parts = {old: type(spec.root)() for old in names}
    for old, part in parts.items():
        part.CopyFrom(spec.components[old])
        if part.executor_label:
            label = f"exec-{names[old]}"
            named.fields[label].CopyFrom(executors.fields[part.executor_label])
            part.executor_label = label
    for dag in (spec.root.dag, *(part.dag for part in parts.values() if part.HasField("dag"))):
        for task in dag.tasks.values():
            task.component_ref.name = f"comp-{names[task.component_ref.name]}"
    spec.components.clear()
    for old, part in parts.items():
        spec.components[f"comp-{names[old]}"].CopyFrom(part)
    executors.CopyFrom(named)


def _name(spec: Any, dag: Any, names: dict[str, str], taken: Counter[str]) -> None:
    """Name the components of a pipeline's tasks, and of the pipelines nested in it, by order of the tasks' names."""
    for task, described in sorted(dag.tasks.items()):
        old = described.component_ref.name
        if old in names:
            continue
        plain = re.sub(r"(-\d+)+$", "", task)
        taken[plain] += 1
        names[old] = plain if taken[plain] == 1 else f"{plain}-{taken[plain]}"
        if spec.components[old].HasField("dag"):
            _name(spec, spec.components[old].dag, names, taken)
