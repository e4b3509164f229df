"""`mscflow pipelines`: the pipelines on Kubeflow."""

import click

from pipelines.cli.compile import compile_


@click.group()
def pipelines() -> None:
    """The pipelines for Kubeflow."""


pipelines.add_command(compile_)
