"""Whether an answer over REST is one that the OpenAPI document describes."""

import copy
import json
import re

from jsonschema import Draft202012Validator

from serving.openapi import document

PARAMETER = re.compile(r"\\{\w+\\}")
# Headers that an answer has wherever the document says that it may have them.
MUST = {"Retry-After"}


class Conformance:
    """Compares answers with the document; objects may hold nothing that it does not name."""

    def __init__(self):
        self.document = _closed(copy.deepcopy(document()))
        # Paths without parameters go first, as the specification asks.
        paths = sorted(self.document["paths"].items(), key=lambda item: "{" in item[0])
        self._paths = [(re.compile(PARAMETER.sub("[^/]+", re.escape(path))), item) for path, item in paths]

    def problems(self, method, path, status, headers, body):
        """Say where an answer differs from the document; an operation that it does not describe is no difference."""
        operation = self._operation(method, path)
        if operation is None:
            return []
        response = operation["responses"].get(str(status))
        if response is None:
            return [f"{status} is not documented for {method} {path}"]
        content_type = headers.get("content-type", "").split(";")[0]
        if content_type not in response["content"]:
            return [f"{status} of {method} {path} is documented as {list(response['content'])}, not {content_type}"]
        missing = [name for name in response.get("headers", {}) if name in MUST and name.lower() not in headers]
        problems = [f"{status} of {method} {path} lacks the header {name}" for name in missing]
        if content_type == "application/json":
            problems += self._invalid(response["content"][content_type]["schema"], json.loads(body))
        return problems

    def _operation(self, method, path):
        for pattern, item in self._paths:
            if pattern.fullmatch(path):
                return item.get(method.lower())
        return None

    def _invalid(self, schema, instance):
        validator = Draft202012Validator({"components": self.document["components"], **schema})
        return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(instance)]


def _closed(value):
    """Forbid in every schema of a document what it does not name."""
    if isinstance(value, dict):
        if "properties" in value and "anyOf" not in value:
            value.setdefault("additionalProperties", False)
        for item in value.values():
            _closed(item)
    elif isinstance(value, list):
        for item in value:
            _closed(item)
    return value
