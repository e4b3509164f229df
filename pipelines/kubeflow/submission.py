"""From a pipeline's name and settings to a run of it on Kubeflow Pipelines."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from components.errors import GateRefused, InputError
from components.settings import Settings
from pipelines.arguments import pipeline_arguments, retrain_arguments
from pipelines.kubeflow.connection import Connection, Json
from pipelines.kubeflow.following import Ended, RunFailed
from pipelines.kubeflow.package import Package, steps_of
from pipelines.kubeflow.place import Place, open_place, upload
from pipelines.kubeflow.running import link, look, new_name, runtime, start


class Submitted(NamedTuple):
    """A run that was started.

    Attributes:
        run_id: By which it is looked at, followed and cancelled.
        name: That no other has.
        link: Its page.
        steps: Of its pipeline, in their order.
    """

    run_id: str
    name: str
    link: str
    steps: tuple[str, ...]


def package_of(pipeline: str, settings: Settings, images: Mapping[str, str]) -> Package:
    """Compile a pipeline for the cluster that the settings describe."""
    from pipelines.compile import compile_pipeline

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{pipeline}.yaml"
        compile_pipeline(pipeline, path, settings.cluster, images)
        return Package.read(path)


def train_run(settings: Settings, source: str) -> dict[str, Any]:
    """Give the arguments of a run of ``train`` on a cluster.

    Raises:
        InputError: if it could not reach what they name.
    """
    check_reach(settings, "--data", source)
    return pipeline_arguments(settings, source)


def retrain_run(settings: Settings, watched: str, batch: str, owner: str) -> dict[str, Any]:
    """Give the arguments of a run of ``retrain`` on a cluster; see ``pipelines.arguments``.

    Raises:
        InputError: if it could not reach what they name, or no lineage is known.
        RegistryError: if the lineage is the champion's and MLflow does not tell.
    """
    from pipelines.watch import lineage_of

    check_reach(settings, "--batch" if batch else "the watched place", batch or watched)
    # Nobody renews the lease of a run on a cluster: it lasts as long as such a run may.
    lasting = settings.model_copy(update={"watch": settings.watch.model_copy(update={"lease": settings.cluster.lease})})
    return retrain_arguments(lasting, watched, batch, lineage_of(settings), owner)


def check_reach(settings: Settings, what: str, uri: str) -> None:
    """Check that steps on a cluster can reach what they are told to read and write.

    Raises:
        InputError: naming what lies on this machine.
    """
    for name, place in ((what, uri), ("store", settings.store_uri)):
        if not place.startswith("s3://"):
            raise InputError(
                f"{name} '{place}' is on this machine, which a cluster cannot read; give s3://bucket/prefix"
            )


def submit(connection: Connection, settings: Settings, package: Package, arguments: dict[str, Any]) -> Submitted:
    """Upload a pipeline where that is needed, and start a run of it.

    Raises:
        InputError: if the arguments do not fit, the API refuses, or does not answer.
    """
    package.check(arguments)
    place = open_place(connection, settings)
    version = upload(connection, place, package)
    name = new_name(package.name)
    run = start(connection, place, name, runtime(arguments, version, settings.cluster.service_account))
    return Submitted(run["run_id"], name, link(connection, place, run["run_id"]), package.steps)


def find(connection: Connection, settings: Settings, run_id: str) -> Submitted:
    """Find a run that was started before.

    Raises:
        NotThere: if there is none.
        InputError: if the API refuses, or does not answer.
    """
    run = look(connection, run_id)
    many = connection.get("/healthz").get("multi_user")
    place = Place(settings.cluster.namespace if many else None, run.get("experiment_id", ""))
    return Submitted(run_id, run.get("display_name", run_id), link(connection, place, run_id), _steps(connection, run))


def _steps(connection: Connection, run: Json) -> tuple[str, ...]:
    """Give the steps of a run's pipeline: from the run, or from the version that it was made of."""
    spec, made_of = run.get("pipeline_spec"), run.get("pipeline_version_reference") or {}
    if not spec and made_of.get("pipeline_version_id"):
        path = f"/pipelines/{made_of['pipeline_id']}/versions/{made_of['pipeline_version_id']}"
        spec = connection.get(path).get("pipeline_spec")
    try:
        return steps_of((spec or {}).get("pipeline_spec", spec) or {})
    except (KeyError, AttributeError):
        return ()


def judge(submitted: Submitted, ended: Ended, *, approval: bool) -> None:
    """Turn how a run ended into the command's end.

    Args:
        submitted: The run.
        ended: How it ended.
        approval: Whether the gate leaves what passes to a person, so that nothing deployed is no refusal.

    Raises:
        RunFailed: if it did not succeed.
        GateRefused: if it succeeded but the gate refused the model, so that nothing was deployed.
    """
    if ended.state != "SUCCEEDED":
        raise RunFailed(f"run '{submitted.name}' did not succeed: {ended.sentence()}; see {submitted.link}")
    if ended.ran("promote") and not ended.ran("deploy") and not approval:
        raise GateRefused(
            f"the gate refused the model of run '{submitted.name}', what served before still serves; "
            f"the reasons are in its report; see {submitted.link}"
        )
