"""A compiled pipeline on disk: what it is called, what it must be given, and its name as a version."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from components.errors import InputError
from pipelines.steps import RETRAIN_STEPS, STEPS

# The one in C, where there is one, is ten times as fast.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_ORDER = (STEPS[0], *RETRAIN_STEPS)


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    Attributes:
        name: Of the pipeline.
        content: The YAML, as it is uploaded.
        inputs: Of every parameter, whether it must be given.
        images: That its steps run in.
        steps: In the order in which they run.
    """

    name: str
    content: bytes
    inputs: Mapping[str, bool]
    images: tuple[str, ...]
    steps: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what ``mscflow pipelines compile`` wrote.

        Raises:
            InputError: if the file is no compiled pipeline.
        """
        try:
            content = path.read_bytes()
            spec = next(yaml.load_all(content, _Loader))
            inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
            needed = {name: not (each.get("isOptional") or "defaultValue" in each) for name, each in inputs.items()}
            executors = spec["deploymentSpec"]["executors"].values()
            images = sorted({executor["container"]["image"] for executor in executors})
            return cls(spec["pipelineInfo"]["name"], content, needed, tuple(images), steps_of(spec))
        except OSError as error:
            raise InputError(f"'{path}' cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, StopIteration, KeyError, TypeError, AttributeError) as error:
            advice = "write one with 'mscflow pipelines compile'"
            raise InputError(f"'{path}' is not a compiled pipeline of steps in containers; {advice}") from error

    @property
    def version(self) -> str:
        """Name of these very bytes, fit for Kubernetes, so that the same pipeline is uploaded once."""
        return f"{self.name}-{hashlib.sha256(self.content).hexdigest()[:12]}"

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Hold arguments against the parameters, as the API takes what fits neither and the run fails later.

        Raises:
            InputError: naming what is missing or unknown.
        """
        missing = sorted(name for name, needed in self.inputs.items() if needed and name not in arguments)
        unknown = sorted(set(arguments) - set(self.inputs))
        wrong = [f"misses {', '.join(missing)}"] * bool(missing) + [f"does not know {', '.join(unknown)}"] * bool(
            unknown
        )
        if wrong:
            advice = "compile it again with this version of mscflow"
            raise InputError(f"pipeline '{self.name}' {' and '.join(wrong)}; {advice}")


def steps_of(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Give the steps of a pipeline's specification; they are its executors, numbered where a step is there twice.

    Raises:
        KeyError: if it has none.
    """
    labels = spec["deploymentSpec"]["executors"]
    names = {re.sub(r"-\d+$", "", label.removeprefix("exec-")) for label in labels}
    return tuple(sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)))
