"""What the commands for Kubeflow Pipelines share: options, following a run, and what Ctrl-C does to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.output import Command, say
from pipelines.cli.run import merge, parse_assignments

if TYPE_CHECKING:
    from components.settings import Settings
    from pipelines.kubeflow.connection import Connection
    from pipelines.kubeflow.following import Ended
    from pipelines.kubeflow.submission import Submitted


def api_options(command: Command) -> Command:
    """Add how the API is reached."""
    options = (
        click.option("--url", help="API of Kubeflow Pipelines, e.g. https://kubeflow.example.org/pipeline."),
        click.option("--token-file", help="File of the token; else MSCFLOW_KUBEFLOW_TOKEN or MSCFLOW_KUBEFLOW_COOKIE."),
        click.option("--ca", help="PEM file of the authority that signed the API's certificate."),
        click.option("--experiment", help="That runs are listed under; default: mscflow."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def api_of(given: dict[str, Any]) -> dict[str, Any]:
    """Take what ``api_options`` gave out of a command's arguments, as settings."""
    return {name: given.pop(name) for name in ("url", "token_file", "ca", "experiment")}


def load_api(given: dict[str, Any], assignments: tuple[str, ...] = ()) -> "Settings":
    """Build the settings of a command that trains nothing."""
    from components.settings import load_settings

    return load_settings(**merge({"kubeflow": api_of(given)}, parse_assignments(assignments)))


@contextmanager
def left_running(connection: "Connection", submitted: "Submitted", cancel: bool) -> Iterator[None]:
    """On Ctrl-C, end the run where that was asked for; otherwise say how to follow and how to end it."""
    try:
        yield
    except KeyboardInterrupt as stop:
        from pipelines.kubeflow import running

        run_id = submitted.run_id
        if cancel:
            running.cancel(connection, run_id)
            raise KeyboardInterrupt(f"run {run_id} is being cancelled; see {submitted.link}") from stop
        raise KeyboardInterrupt(
            f"run {run_id} goes on; follow it with 'mscflow pipelines submit --run {run_id}', "
            f"stop it with 'mscflow pipelines cancel {run_id}'; see {submitted.link}"
        ) from stop


def follow_run(connection: "Connection", submitted: "Submitted", cancel: bool, as_json: bool) -> "Ended":
    """Follow a run to its end, with a line for each step on standard error; give how it ended, told on the way."""
    from pipelines.display import RunDisplay
    from pipelines.kubeflow.following import follow

    with left_running(connection, submitted, cancel), RunDisplay(submitted.steps) as display:
        ended = follow(connection, submitted.run_id, submitted.steps, display.observe)
    say(_answer(submitted, ended), as_json, lambda: _show(submitted, ended))
    return ended


def tell_started(submitted: "Submitted") -> None:
    """Say, at once, what was started and where it can be seen."""
    click.echo(f"run {submitted.run_id} ({submitted.name})\n{submitted.link}", err=True)


def _answer(submitted: "Submitted", ended: "Ended") -> dict[str, Any]:
    return {
        "run": submitted.run_id,
        "name": submitted.name,
        "link": submitted.link,
        "state": ended.state,
        "error": ended.error or None,
        "seconds": ended.seconds,
        "steps": [{"step": task.step, "state": task.state, "seconds": task.seconds} for task in ended.tasks],
    }


def _show(submitted: "Submitted", ended: "Ended") -> None:
    took = "" if ended.seconds is None else f" after {ended.seconds:.0f} s"
    click.echo(f"run       {submitted.run_id}{took}: {ended.sentence()}")
    click.echo(f"page      {submitted.link}")
