"""`mscflow pipelines compile`: a pipeline as Kubeflow Pipelines takes it."""

import json
from pathlib import Path

import click

from pipelines.cli.output import json_option, say
from pipelines.cli.run import parse_assignments

PIPELINES = ("train", "retrain", "study")

digests_option = click.option(
    "--image-digests",
    type=click.Path(path_type=Path),
    help='JSON file of references by digest: {"train": "registry/train@sha256:...", "control": "..."}.',
)


@click.command("compile")
@click.argument("pipeline", type=click.Choice(PIPELINES), default="train")
@click.option("--output", type=click.Path(path_type=Path), help="Default: the pipeline's name with .yaml.")
@digests_option
@click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting, e.g. cluster.train.gpus=1."
)
@json_option
def compile_(
    pipeline: str, output: Path | None, image_digests: Path | None, assignments: tuple[str, ...], as_json: bool
) -> None:
    """Write a pipeline as the YAML that Kubeflow Pipelines runs: train (default), retrain or study.

    What its steps get is set in the section cluster (see `mscflow settings`). CPU, memory, GPUs, their type, node
    labels and tolerations are parameters of the pipeline too, such as train_gpus, and the settings their defaults.
    Retries, timeouts, the config map and the secrets are fixed when it is compiled.

    As a recurring run, retrain needs nothing beside it: it polls first, and ends early where nothing is new.

    \b
    Examples:
      mscflow pipelines compile --output train.yaml
      mscflow pipelines compile retrain --image-digests digests.json
      mscflow pipelines compile train --set cluster.train.gpus=1 --set cluster.train.memory=64Gi
    """
    from components.settings import load_settings
    from pipelines.compile import compile_pipeline, is_mutable

    settings = load_settings(**parse_assignments(assignments))
    path = output or Path(f"{pipeline}.yaml")
    images = compile_pipeline(pipeline, path, settings.cluster, digests(image_digests))
    warnings = [
        f"image '{image}' is named by a tag, which may be moved: a run would then take from the cache what other code "
        "made; give --image-digests"
        for image in images
        if is_mutable(image)
    ]
    for warning in warnings:
        click.echo(f"mscflow: {warning}", err=True)
    answer = {"pipeline": pipeline, "output": str(path), "images": images, "warnings": warnings}
    say(answer, as_json, lambda: click.echo(f"wrote {path}"))


def digests(path: Path | None) -> dict[str, str]:
    """Read ``--image-digests``."""
    from components.errors import InputError

    if path is None:
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--image-digests '{path}' cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(
            f"--image-digests '{path}' is not JSON ({error}); write an object of name: reference"
        ) from error
    if not isinstance(read, dict) or not all(isinstance(value, str) for value in read.values()):
        raise InputError(f"--image-digests '{path}' is not an object of name: reference, such as train and control")
    return read
