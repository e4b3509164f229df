"""`mscflow pipelines submit` and `cancel`: runs on Kubeflow Pipelines."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.errors import InputError
from pipelines.cli.compile import digests, digests_option
from pipelines.cli.kubeflow import api_of, api_options, follow_run, load_api, tell_started
from pipelines.cli.output import json_option, say
from pipelines.cli.run import load, settings_options

if TYPE_CHECKING:
    from components.settings import Settings
    from pipelines.kubeflow.connection import Connection
    from pipelines.kubeflow.package import Package
    from pipelines.kubeflow.submission import Submitted


@click.command()
@click.argument("pipeline", type=click.Choice(["train", "retrain"]), default="train")
@click.option("--data", "source", help="Of train: s3://bucket/prefix of images.")
@click.option("--batch", help="Of retrain: s3://bucket/prefix of one batch.")
@click.option("--watched", help="Of retrain, in place of --batch: s3://bucket/prefix whose folders are batches.")
@click.option("--run", "run_id", help="Start nothing: follow this run, which was started before.")
@click.option("--file", "compiled", type=click.Path(path_type=Path), help="Compiled pipeline; default: compiled now.")
@digests_option
@click.option("--ref", help="Lineage that the images belong to.")
@click.option("--task", help="confluence (default) or abnormal_cells.")
@click.option("--modality", help="single_stack (default) or multi_stack.")
@click.option("--detach", is_flag=True, help="Do not follow the run.")
@click.option("--cancel-on-interrupt", is_flag=True, help="End the run on Ctrl-C; otherwise it goes on.")
@api_options
@settings_options
@json_option
def submit(
    pipeline: str, run_id: str | None, detach: bool, cancel_on_interrupt: bool, as_json: bool, **given: Any
) -> None:
    """Start a run of a pipeline on Kubeflow Pipelines and follow it: train (default) or retrain.

    Its page is printed first, then a line a step; the command ends as the run does. Exit code 3: the gate refused the
    model; that of the step that failed, where the store can be asked for it; else 1. Ctrl-C leaves the run going,
    unless --cancel-on-interrupt is given.

    \b
    Examples:
      mscflow pipelines submit --data s3://cultures/2026 --url https://kubeflow.example.org/pipeline
      mscflow pipelines submit retrain --batch s3://cultures/incoming/2026-11-23 --ref clinic
      mscflow pipelines submit --run 6f2e0b1c-9d1e-4f0a-8c57-0e4b8f1d2a33
    """
    from pipelines.kubeflow.connection import Connection
    from pipelines.kubeflow.submission import find

    settings = _settings(given)
    with Connection(settings.kubeflow) as connection:
        if run_id is None:
            submitted = _start(connection, settings, pipeline, given)
        else:
            submitted = find(connection, settings, run_id)
        if not detach:
            _see_through(connection, settings, submitted, cancel=cancel_on_interrupt, as_json=as_json)
            return
    tell_started(submitted)
    say({"run": submitted.run_id, "name": submitted.name, "link": submitted.link}, as_json, lambda: None)


def run_there(pipeline: str, settings: "Settings", arguments: dict[str, Any], as_json: bool) -> None:
    """Run a pipeline on Kubeflow Pipelines to its end, as ``submit`` does."""
    from pipelines.kubeflow.connection import Connection
    from pipelines.kubeflow.submission import submit

    with Connection(settings.kubeflow) as connection:
        submitted = submit(connection, settings, package(pipeline, settings), arguments)
        _see_through(connection, settings, submitted, cancel=False, as_json=as_json)


def _see_through(
    connection: "Connection", settings: "Settings", submitted: "Submitted", *, cancel: bool, as_json: bool
) -> None:
    from pipelines.kubeflow.submission import judge, word_of

    tell_started(submitted)
    ended = follow_run(connection, submitted, cancel, as_json)
    word = word_of(settings, submitted, ended)
    judge(submitted, ended, word, approval=settings.gate.policy == "approval")


@click.command()
@click.argument("run_id")
@api_options
@json_option
def cancel(run_id: str, as_json: bool, **given: Any) -> None:
    """End a run on Kubeflow Pipelines.

    \b
    Examples:
      mscflow pipelines cancel 6f2e0b1c-9d1e-4f0a-8c57-0e4b8f1d2a33
    """
    from pipelines.kubeflow import running
    from pipelines.kubeflow.connection import Connection

    with Connection(load_api(given).kubeflow) as connection:
        running.cancel(connection, run_id)
    say({"run": run_id, "state": "CANCELING"}, as_json, lambda: click.echo(f"run {run_id} is being cancelled"))


def _settings(given: dict[str, Any]) -> "Settings":
    assignments, ref, modality = (given.pop(name) for name in ("assignments", "ref", "modality"))
    return load(given, assignments, modality=modality, data={"ref": ref}, kubeflow=api_of(given))


def _start(connection: "Connection", settings: "Settings", pipeline: str, given: dict[str, Any]) -> "Submitted":
    from pipelines.kubeflow.submission import retrain_run, submit, train_run

    source, batch, watched = (given[name] or "" for name in ("source", "batch", "watched"))
    if pipeline == "train":
        if not source or batch or watched:
            raise InputError("train takes its images from --data s3://bucket/prefix, and from nothing else")
        arguments = train_run(settings, source)
    else:
        if source or bool(batch) == bool(watched):
            raise InputError("retrain takes --batch s3://bucket/prefix, or --watched, and not both")
        from pipelines.watch import new_owner

        arguments = retrain_run(settings, watched, batch, new_owner())
    made = package(pipeline, settings, given["compiled"], given["image_digests"])
    return submit(connection, settings, made, arguments)


def package(
    pipeline: str, settings: "Settings", compiled: Path | None = None, image_digests: Path | None = None
) -> "Package":
    """Take the compiled pipeline from a file, or compile it now."""
    from pipelines.compile import is_mutable
    from pipelines.kubeflow.package import Package
    from pipelines.kubeflow.submission import package_of

    made = Package.read(compiled) if compiled else package_of(pipeline, settings, digests(image_digests))
    if made.name != pipeline:
        raise InputError(f"--file '{compiled}' is the pipeline '{made.name}', not '{pipeline}'")
    for image in filter(is_mutable, made.images):
        click.echo(f"mscflow: image '{image}' is named by a tag, which may be moved; give --image-digests", err=True)
    return made
