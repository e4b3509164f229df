"""The API of Kubeflow Pipelines as its own OpenAPI description has it.

The description itself is not in a package, but KFP generates ``kfp_server_api`` from it: each of its methods knows one
operation, each of its models the fields of one object. Both are asked here, and nothing is written down a second time.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

import kfp_server_api

_PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float)}


@dataclass(frozen=True)
class Operation:
    """One thing that may be asked: ``body`` and ``answer`` are names of models, None where there is none."""

    name: str
    method: str
    path: str
    query: frozenset[str]
    body: str | None
    files: frozenset[str]
    answer: str

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Give the parameters in a path, if it is this operation's."""
        names = re.findall(r"\{([^}]+)\}", self.path)
        pattern = re.sub(r"\\\{[^}]+\\\}", "([^/:]+)", re.escape(self.path))
        found = re.fullmatch(pattern, path) if method == self.method else None
        return dict(zip(names, found.groups(), strict=True)) if found else None


@cache
def operations() -> tuple[Operation, ...]:
    """Give every operation that the description has."""
    apis = [getattr(kfp_server_api, name) for name in dir(kfp_server_api) if name.endswith("ServiceApi")]
    return tuple(
        _operation(api, name, inspect.getdoc(method) or "")
        for api in apis
        for name, method in inspect.getmembers(api, inspect.isfunction)
        if name.endswith("_with_http_info")
    )


def _operation(api: Any, name: str, text: str) -> Operation:
    """Call a method with its parameters' names as their values, and see where it puts each."""
    seen: dict[str, Any] = {}

    def call_api(path: str, method: str, *_parameters: Any, **more: Any) -> None:
        seen.update(more, path=path, method=method, query=_parameters[1])

    types = dict(re.findall(r":type (\w+): (\S+)", text))
    given = {key: key for key in types if key != "async_req" and not key.startswith("_")}
    same = staticmethod(lambda choices: choices[0])
    client = SimpleNamespace(call_api=call_api, client_side_validation=False)
    client.select_header_accept = client.select_header_content_type = same.__func__
    getattr(api(client), name)(**given)
    body = types[seen["body"]] if seen.get("body") else None
    query = frozenset(key for key, _ in seen["query"])
    operation = name.removesuffix("_with_http_info")
    return Operation(
        operation, seen["method"], seen["path"], query, body, frozenset(seen["files"]), seen["response_type"]
    )


def complaints(kind: str, value: Any, where: str) -> Iterator[str]:
    """Hold a JSON value against a type of the description, and say where it is otherwise."""
    if kind == "object":
        return
    if found := re.fullmatch(r"list\[(.+)\]|dict\(str, (.+)\)", kind):
        wanted = list if found[1] else dict
        if not isinstance(value, wanted):
            yield f"{where} is {value!r}, not a {wanted.__name__}"
            return
        items = enumerate(value) if found[1] else value.items()
        for key, item in items:
            yield from complaints(found[1] or found[2], item, f"{where}.{key}")
    elif kind in _PLAIN:
        if not isinstance(value, _PLAIN[kind]) or (kind == "int" and isinstance(value, bool)):
            yield f"{where} is {value!r}, not {kind}"
    elif kind == "datetime":
        yield from _of_time(value, where)
    else:
        yield from _of_model(getattr(kfp_server_api, kind), value, where)


def _of_time(value: Any, where: str) -> Iterator[str]:
    try:
        zoned = datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        zoned = False
    if not zoned:
        yield f"{where} is {value!r}, not a time with its zone"


def _of_model(model: Any, value: Any, where: str) -> Iterator[str]:
    if hasattr(model, "allowable_values"):
        if value not in model.allowable_values:
            yield f"{where} is {value!r}, not one of {model.allowable_values}"
        return
    if not isinstance(value, dict):
        yield f"{where} is {value!r}, not {model.__name__}"
        return
    kinds = {key: model.openapi_types[attribute] for attribute, key in model.attribute_map.items()}
    for key, item in value.items():
        if key not in kinds:
            yield f"{where}.{key} is unknown to {model.__name__}"
        else:
            yield from complaints(kinds[key], item, f"{where}.{key}")
