"""What a person sees at the end of a run that looked for abnormal cells."""

from typing import Any

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


def show_detector(answer: dict[str, Any]) -> None:
    """Show the data and the figures of a run, as ``mscflow run`` gives it as JSON."""
    metrics, parts = answer["metrics"], answer["split"]
    kinds = list(parts["train"])
    rows = ([part, sum(counts.values()), *(counts[kind] for kind in kinds)] for part, counts in parts.items())
    heads = {"abnormal": "with abnormal cells", "clean": "without"}
    table(["part", "images", *(heads.get(kind, kind) for kind in kinds)], rows, title="Data")
    shown = [(name, "-" if metrics[key] is None else f"{metrics[key]:.3f}") for name, key in _FIGURES]
    title = f"Test ({metrics['n']} images of groups never trained on, {metrics['cells']} abnormal cells)"
    table(["metric", "value"], shown, title=title)
