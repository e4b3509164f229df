"""Handing parameters of the whole run down to the steps that need them, through every pipeline between.

A definition that named them in each nested pipeline would be hard to read, and they mean nothing on one machine. So
they are added to the compiled pipeline, just as KFP's compiler writes what a definition says.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pipelines.cluster.parameters import kind_of, placing_of, resources_of

_PREFIX = "pipelinechannel--"
_TYPES = {"str": "STRING", "dict": "STRUCT", "list": "LIST"}


def hand_down(spec: Any, values: Mapping[str, Any]) -> None:
    """Give each step the parameters of its resources, and each nested pipeline those of its steps.

    Args:
        spec: The ``PipelineSpec``, whose root declares the parameters; changed in place.
        values: Every parameter's default, for its type.
    """

    @cache
    def needed(name: str) -> frozenset[str]:
        component = spec.components[name]
        if not component.HasField("dag"):
            kind = kind_of(name)
            return frozenset((*resources_of(kind).values(), *placing_of(kind)))
        refs = (task.component_ref.name for task in component.dag.tasks.values())
        return frozenset().union(*map(needed, refs))

    nested = [name for name, component in spec.components.items() if component.HasField("dag")]
    for name in nested:
        for parameter in sorted(needed(name)):
            definition = spec.components[name].input_definitions.parameters[parameter]
            definition.parameter_type = _type(definition, values[parameter])
    for dag in (spec.root.dag, *(spec.components[name].dag for name in nested)):
        for task in dag.tasks.values():
            ref = task.component_ref.name
            if ref in nested:
                for parameter in needed(ref):
                    task.inputs.parameters[parameter].component_input_parameter = parameter
            else:
                _bind(task, resources_of(kind_of(ref)))


def placeholder(parameter: str) -> str:
    """Write what KFP replaces by a parameter that ``hand_down`` gave to a step."""
    return f"{{{{$.inputs.parameters['{_PREFIX}{parameter}']}}}}"


def _bind(task: Any, resources: Mapping[str, str]) -> None:
    given = task.inputs.parameters
    for resource, parameter in resources.items():
        given[f"{_PREFIX}{parameter}"].component_input_parameter = parameter
        given[resource].runtime_value.constant.string_value = placeholder(parameter)


def _type(definition: Any, value: Any) -> int:
    kinds = definition.DESCRIPTOR.fields_by_name["parameter_type"].enum_type.values_by_name
    number: int = kinds[_TYPES[type(value).__name__]].number
    return number
