"""`mscflow pipelines`: the pipelines as Kubeflow Pipelines takes them."""

from pathlib import Path

import click

from pipelines.cli.output import json_option, say


@click.group()
def pipelines() -> None:
    """The pipelines for Kubeflow."""


@pipelines.command("compile")
@click.argument("pipeline", type=click.Choice(["train", "retrain"]), default="train")
@click.option("--output", type=click.Path(path_type=Path), help="Default: the pipeline's name with .yaml.")
@json_option
def compile_(pipeline: str, output: Path | None, as_json: bool) -> None:
    """Write a pipeline as the YAML that Kubeflow Pipelines runs: train (default) or retrain.

    As a recurring run, retrain needs nothing beside it: it polls first, and ends early where nothing is new.

    \b
    Examples:
      mscflow pipelines compile --output train.yaml
      mscflow pipelines compile retrain
    """
    from pipelines.compile import compile_retrain, compile_train

    path = output or Path(f"{pipeline}.yaml")
    (compile_retrain if pipeline == "retrain" else compile_train)(path)
    say({"pipeline": pipeline, "output": str(path)}, as_json, lambda: click.echo(f"wrote {path}"))
