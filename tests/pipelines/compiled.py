"""A compiled pipeline as one tree, for golden files: what numbers and names KFP makes up is left out."""

import json
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]


def tree_of(path: Path) -> Json:
    """Read a compiled pipeline: its parameters and its tasks, with the steps and pods of each in its place.

    A step's source is left out, as the image holds the code; that it runs the function of its name is kept.
    """
    spec, platform = yaml.safe_load_all(path.read_text())
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {
        "name": spec["pipelineInfo"]["name"],
        "parameters": spec["root"]["inputDefinitions"]["parameters"],
        "tasks": _tasks(spec, pods, spec["root"]["dag"]),
    }


def _tasks(spec: Json, pods: Json, dag: Json) -> Json:
    return {name: _task(spec, pods, task) for name, task in dag["tasks"].items()}


def _task(spec: Json, pods: Json, task: Json) -> Json:
    told = {key: value for key, value in task.items() if key not in {"componentRef", "taskInfo"}}
    component = spec["components"][task["componentRef"]["name"]]
    if "dag" in component:
        return told | {"tasks": _tasks(spec, pods, component["dag"])}
    label = component["executorLabel"]
    container = spec["deploymentSpec"]["executors"][label]["container"]
    return told | {
        "image": container["image"],
        "resources": container["resources"],
        "function": container["args"][-1],
        "pod": pods[label],
        "outputs": component.get("outputDefinitions", {}),
    }


class _Dumper(yaml.SafeDumper):
    """Writes each pod once, and a reference where another step has the same."""

    def ignore_aliases(self, data: Any) -> bool:
        return not (isinstance(data, dict) and "activeDeadlineSeconds" in data)


def text_of(tree: Json) -> str:
    """Write a tree for people to read and ``git diff`` to compare."""
    return yaml.dump(_shared(tree, {}), Dumper=_Dumper, width=120, sort_keys=True)


def _shared(value: Any, known: dict[str, Json]) -> Any:
    if not isinstance(value, dict):
        return value
    if "activeDeadlineSeconds" in value:
        return known.setdefault(json.dumps(value, sort_keys=True), value)
    return {key: _shared(each, known) for key, each in value.items()}
