"""Where runs belong on Kubeflow Pipelines: a namespace, an experiment, a version of a pipeline; each made once."""

import json
from typing import NamedTuple
from urllib.parse import quote

from components.provenance import code_version
from components.settings import Settings
from pipelines.kubeflow.connection import Connection, Json
from pipelines.kubeflow.failures import NotThere
from pipelines.kubeflow.package import Package


class Version(NamedTuple):
    """A pipeline's version, as it was uploaded."""

    pipeline_id: str
    version_id: str
    name: str


class Place(NamedTuple):
    """What runs are made in.

    Attributes:
        namespace: None where Kubeflow Pipelines has one user, and knows no namespaces.
        experiment_id: Of the experiment that they are listed under.
    """

    namespace: str | None
    experiment_id: str


def equals(key: str, value: str) -> str:
    """Write a filter of the API."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "string_value": value}]})


def open_place(connection: Connection, settings: Settings) -> Place:
    """Find the experiment that ``settings`` name, or make it.

    Raises:
        InputError: if the API refuses, or does not answer.
    """
    many = bool(connection.get("/healthz").get("multi_user"))
    namespace = settings.cluster.namespace if many else None
    name = settings.kubeflow.experiment
    wanted = {"display_name": name, "description": "mscflow", **({"namespace": namespace} if namespace else {})}

    def find() -> Json | None:
        query = {"namespace": namespace, "filter": equals("display_name", name)}
        return next(connection.pages("/experiments", "experiments", **query), None)

    experiment, _ = connection.make(find, "/experiments", wanted)
    return Place(namespace, experiment["experiment_id"])


def upload(connection: Connection, place: Place, package: Package) -> Version:
    """Put a compiled pipeline where runs can be made of it; the same one is put there once.

    Raises:
        InputError: if the API refuses, or does not answer.
    """
    pipeline_id = _pipeline(connection, place, package.name)
    path = f"/pipelines/{pipeline_id}/versions"

    def find() -> Json | None:
        return next(connection.pages(path, "pipeline_versions", filter=equals("name", package.version)), None)

    query = {"name": package.version, "pipelineid": pipeline_id, "description": f"mscflow {code_version()}"}
    files = {"uploadfile": (f"{package.name}.yaml", package.content, "application/yaml")}
    version, _ = connection.make(find, "/pipelines/upload_version", query=query, files=files)
    return Version(pipeline_id, version["pipeline_version_id"], package.version)


def _pipeline(connection: Connection, place: Place, name: str) -> str:
    def find() -> Json | None:
        try:
            return connection.get(f"/pipelines/names/{quote(name, safe='')}", namespace=place.namespace)
        except NotThere:
            return None

    wanted = {"name": name, "display_name": name, **({"namespace": place.namespace} if place.namespace else {})}
    pipeline, _ = connection.make(find, "/pipelines", wanted)
    identity: str = pipeline["pipeline_id"]
    return identity
