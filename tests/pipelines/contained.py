"""The compiled training pipeline with each step in a container: what they share is S3 and MLflow on their network."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from components.cluster import ClusterSettings
from components.patience import RUN_VARIABLE
from components.settings import Settings
from components.storage import open_store
from pipelines.arguments import pipeline_arguments
from pipelines.compile import compile_pipeline
from tests.containers import Docker
from tests.services import MLFLOW_ALIAS, MLFLOW_PORT, S3Service, start_mlflow, start_s3

BUCKET = "mscflow"
STORE = f"s3://{BUCKET}/store"

_RUN = """
import json, sys
from kfp import components, local
given = json.loads(sys.argv[1])
local.init(runner=local.DockerRunner(**given["containers"]), pipeline_root=given["root"])
components.load_component_from_file(given["pipeline"])(**given["arguments"])
"""


@dataclass(frozen=True)
class Ended:
    """A run that has ended.

    Attributes:
        name: That its steps know it by.
        code: 0 where every step did what it should.
        results: Of each step that gave one.
        seconds: From the first step's start to the last one's end, what starts kfp included.
        log: All that was written.
    """

    name: str
    code: int
    results: dict[str, dict[str, Any]]
    seconds: float
    log: str


@dataclass(frozen=True)
class Contained:
    """A network with S3 and MLflow on it, in which pipelines run.

    Attributes:
        mlflow: Address of the server as this machine sees it.
        images: Tags by ``control``, ``train`` and ``predict``.
    """

    docker: Docker
    network: str
    s3: S3Service
    mlflow: str
    images: Mapping[str, str]
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What every container is told, as a cluster's pods are by a ConfigMap and a Secret."""
        tracking = f"http://{MLFLOW_ALIAS}:{MLFLOW_PORT}"
        return self.s3.inside | {"MSCFLOW_STORE": STORE, "MSCFLOW_TRACKING_URI": tracking}

    def put(self, folder: Path, prefix: str) -> str:
        """Put a folder into S3; give the URI that it has there."""
        store = open_store(f"s3://{BUCKET}/{prefix}")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                store.write(path.relative_to(folder).as_posix(), path)
        return f"s3://{BUCKET}/{prefix}"

    def run(self, settings: Settings, source: str) -> Ended:
        """Run the compiled training pipeline to its end, a container a step."""
        name = f"run-{uuid4().hex}"
        root = self.folder / name
        root.mkdir()
        root.chmod(0o777)  # the containers' user is not this one
        given = {
            "containers": self._options(name),
            "root": str(root),
            "pipeline": str(self._compiled(root.with_suffix(".yaml"))),
            "arguments": pipeline_arguments(settings, source),
        }
        environment = {key: value for key, value in self.docker.environment.items() if not key.startswith("MSCFLOW_")}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _RUN, json.dumps(given)],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        return Ended(name, done.returncode, _results(root), time.perf_counter() - started, done.stdout)

    def _options(self, name: str) -> dict[str, Any]:
        """Options of ``docker run``: a plain user who may write to /tmp and to the outputs, and nowhere else."""
        return {
            "network": self.network,
            "environment": {**self.environment, RUN_VARIABLE: name, "HOME": "/tmp", "MSCFLOW_HOME": "/tmp/mscflow"},  # noqa: S108
            "user": "10001:0",
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "tmpfs": {"/tmp": "exec"},  # noqa: S108
        }

    def _compiled(self, path: Path) -> Path:
        once = ClusterSettings(retries=0)
        compile_pipeline("train", path, once, {name: self.images[name] for name in ("control", "train")})
        spec, platform = yaml.safe_load_all(path.read_text())
        # kfp's loader takes a pipeline that is called like one of its steps for that step.
        spec["pipelineInfo"]["name"] = "whole"
        path.write_text(yaml.safe_dump_all([spec, platform]))
        return path


@contextmanager
def contained(docker: Docker, images: Mapping[str, str], folder: Path) -> Iterator[Contained]:
    """Start S3 and MLflow in a network of their own; this process finds that S3, too, as long as the block lasts."""
    network = docker.network()
    s3 = start_s3(docker, images["control"], network, folder, BUCKET)
    mlflow = start_mlflow(docker, images["control"], network, s3, f"s3://{BUCKET}/artifacts")
    before = dict(os.environ)
    os.environ.update(s3.outside)
    try:
        yield Contained(docker, network, s3, mlflow, images, folder)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _results(root: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in root.glob("*/*/executor_output.json"):
        given = json.loads(path.read_text()).get("parameterValues", {})
        if "result" in given:
            # kfp numbers tasks whose name another component has, in one compilation and not in the next.
            found[re.sub(r"-\d+$", "", path.parent.name)] = json.loads(given["result"])
    return found
