"""`mscflow pipelines`: the pipelines on Kubeflow."""

import click

from pipelines.cli.compile import compile_
from pipelines.cli.schedule import schedule
from pipelines.cli.submit import cancel, submit


@click.group()
def pipelines() -> None:
    """The pipelines for Kubeflow."""


for command in (compile_, submit, cancel, schedule):
    pipelines.add_command(command)
