"""Runs on Kubeflow Pipelines: starting one once, looking at it, ending it."""

import secrets
from datetime import UTC, datetime
from typing import Any

from pipelines.kubeflow.connection import Connection, Json
from pipelines.kubeflow.place import Place, Version, equals


def new_name(pipeline: str) -> str:
    """Name a run so that no other has the same name, by which it is found again if an answer is lost."""
    return f"{pipeline}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def runtime(arguments: dict[str, Any], version: Version, service_account: str) -> Json:
    """Give what a run, and a recurring one, is made of."""
    return {
        "pipeline_version_reference": {"pipeline_id": version.pipeline_id, "pipeline_version_id": version.version_id},
        "runtime_config": {"parameters": arguments},
        "service_account": service_account,
    }


def start(connection: Connection, place: Place, name: str, made_of: Json) -> Json:
    """Start a run, once.

    Args:
        connection: To the API.
        place: That it belongs to.
        name: That no other run has.
        made_of: See ``runtime``.

    Returns:
        The run, as the API describes it.

    Raises:
        InputError: if the API refuses, or does not answer.
    """

    def find() -> Json | None:
        query = {"experiment_id": place.experiment_id, "filter": equals("display_name", name)}
        return next(connection.pages("/runs", "runs", **query), None)

    body = {"display_name": name, "experiment_id": place.experiment_id, **made_of}
    run, _ = connection.make(find, "/runs", body)
    return run


def look(connection: Connection, run_id: str) -> Json:
    """Give a run as it is now.

    Raises:
        NotThere: if there is none.
        InputError: if the API refuses, or does not answer.
    """
    return connection.get(f"/runs/{run_id}")


def cancel(connection: Connection, run_id: str) -> None:
    """Ask for a run's end; its pods are stopped soon after. Raises what ``look`` does."""
    connection.tell("POST", f"/runs/{run_id}:terminate")


def link(connection: Connection, place: Place | None, run_id: str) -> str:
    """Give the page of a run."""
    return page(connection, place, f"runs/details/{run_id}")


def page(connection: Connection, place: Place | None, path: str) -> str:
    """Give a page of the user interface."""
    base = connection.settings.ui or connection.url
    namespace = f"/?ns={place.namespace}" if place is not None and place.namespace else "/"
    return f"{base}{namespace}#/{path}"
