"""From a pipeline's name and settings to a run of it on Kubeflow Pipelines."""

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.errors import GateRefused, InputError, MscflowError
from components.failure import Failure, find_failure
from components.settings import Settings
from pipelines.arguments import pipeline_arguments, retrain_arguments
from pipelines.kubeflow.connection import Connection, Json
from pipelines.kubeflow.following import Ended, RunFailed
from pipelines.kubeflow.package import Package, steps_of
from pipelines.kubeflow.place import Place, open_place, upload
from pipelines.kubeflow.running import link, look, new_name, runtime, start

if TYPE_CHECKING:
    from pipelines.study.options import StudyOptions


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
    _check_reach({"--data": source, "store": settings.store_uri})
    return pipeline_arguments(_on_cluster(settings), source)


def retrain_run(settings: Settings, watched: str, batch: str, owner: str) -> dict[str, Any]:
    """Give the arguments of a run of ``retrain`` on a cluster; see ``pipelines.arguments``.

    Raises:
        InputError: if it could not reach what they name, or no lineage is known.
        RegistryError: if the lineage is the champion's and MLflow does not tell.
    """
    from pipelines.watch import lineage_of

    _check_reach({"the place of batches": batch or watched, "store": settings.store_uri})
    return retrain_arguments(_on_cluster(settings), watched, batch, lineage_of(settings), owner)


def study_run(options: "StudyOptions") -> dict[str, Any]:
    """Give the arguments of a run of ``study`` on a cluster; raises what ``train_run`` does."""
    from pipelines.study.arguments import study_arguments

    for source in options.sources:
        if Path(source).exists():  # what is no folder here may be the name of a data version, which lies in the store
            _check_reach({"--data": source})
    _check_reach({"store": options.settings.store_uri})
    return study_arguments(options)


def _on_cluster(settings: Settings) -> Settings:
    """Change what is meant for one machine."""
    # Nobody renews the lease of a run on a cluster: it lasts as long as such a run may.
    watch = settings.watch.model_copy(update={"lease": settings.cluster.lease})
    # An endpoint in a step's pod would end with the step.
    rollout = settings.rollout.model_copy(update={"target": "kserve"})
    return settings.model_copy(update={"watch": watch, "rollout": rollout})


def _check_reach(places: Mapping[str, str]) -> None:
    for name, uri in places.items():
        if not uri.startswith("s3://"):
            raise InputError(f"{name} '{uri}' is on this machine, which a cluster cannot read; give s3://bucket/prefix")


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


def word_of(settings: Settings, submitted: Submitted, ended: Ended) -> Failure | None:
    """Give the word that a run's failed step left in the store; None where there is none, or it is out of reach."""
    if ended.state != "FAILED":
        return None
    with suppress(MscflowError):
        return find_failure(settings.store_uri, submitted.run_id)
    return None


def judge(submitted: Submitted, ended: Ended, word: Failure | None, *, approval: bool) -> None:
    """Turn how a run ended into the command's end.

    Args:
        submitted: The run.
        ended: How it ended.
        word: Of the step that failed; see ``word_of``.
        approval: Whether the gate leaves what passes to a person, so that nothing deployed is no refusal.

    Raises:
        RunFailed: if it did not succeed.
        GateRefused: if it succeeded but the gate refused the model, so that nothing was deployed.
    """
    if ended.state != "SUCCEEDED":
        why = f"step '{word.step}': {word.message}" if word else ended.sentence()
        message = f"run '{submitted.name}' did not succeed: {why}; see {submitted.link}"
        raise RunFailed(message, word.exit_code if word else 1)
    if ended.ran("promote") and not ended.ran("deploy") and not approval:
        raise GateRefused(
            f"the gate refused the model of run '{submitted.name}', what served before still serves; the reasons are "
            f"in its report; see {submitted.link}"
        )
