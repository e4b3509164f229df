"""What a person sees at the end of a run that looked for abnormal cells."""

from pathlib import Path
from typing import Any

import click

from pipelines.cli.output import table

_FIGURES = (
    ("recall", "recall"),
    ("false discovery rate", "false_discovery_rate"),
    ("average precision", "average_precision"),
    ("FROC, mean recall at 1/8 to 8 false boxes an image", "froc"),
    ("images without an abnormal cell left alone", "clean_images"),
    ("as the paper counts: hit rate", "hit_rate"),
    ("as the paper counts: false discovery rate", "hit_false_discovery_rate"),
)


def show_detector(answer: dict[str, Any], home: Path) -> None:
    """Show the outcome of a run, as ``mscflow run`` gives it as JSON."""
    metrics, gate, model = answer["metrics"], answer["gate"], answer["model"]
    parts = answer["split"]
    kinds = list(parts["train"])
    rows = ([part, sum(counts.values()), *(counts[kind] for kind in kinds)] for part, counts in parts.items())
    heads = {"abnormal": "with abnormal cells", "clean": "without"}
    table(["part", "images", *(heads.get(kind, kind) for kind in kinds)], rows, title="Data")
    shown = [(name, "-" if metrics[key] is None else f"{metrics[key]:.3f}") for name, key in _FIGURES]
    title = f"Test ({metrics['n']} images of groups never trained on, {metrics['cells']} abnormal cells)"
    table(["metric", "value"], shown, title=title)
    verdict = "passed the gate" if gate["passed"] else "was refused: " + "; ".join(gate["reasons"])
    click.echo(f"model     {model['name']} version {model['version']} {verdict}")
    click.echo("endpoint  none: the endpoint cannot look for abnormal cells yet, so nothing was deployed")
    click.echo(f"report    {answer['report']}")
    click.echo(f"seconds   {answer['seconds']['total']:.0f}")
    where = "" if home == Path(".mscflow").absolute() else f" --home {home}"
    click.echo(f"\nNext:\n  mscflow{where} models show {model['name']} {model['version']}")
