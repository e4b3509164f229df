"""`mscflow pipelines`: the pipeline as Kubeflow Pipelines takes it."""

from pathlib import Path

import click

from pipelines.cli.output import json_option, say


@click.group()
def pipelines() -> None:
    """The pipeline for Kubeflow."""


@pipelines.command("compile")
@click.option("--output", type=click.Path(path_type=Path), default=Path("train.yaml"), show_default=True)
@json_option
def compile_(output: Path, as_json: bool) -> None:
    """Write the training pipeline as the YAML that Kubeflow Pipelines runs.

    \b
    Example:
      mscflow pipelines compile --output train.yaml
    """
    from pipelines.compile import compile_train

    compile_train(output)
    say({"pipeline": "train", "output": str(output)}, as_json, lambda: click.echo(f"wrote {output}"))
