"""The tables as Markdown for people, CSV for spreadsheets and JSON for machines."""

import csv
import io
from collections.abc import Iterator, Sequence

import msgspec

from components.culture import Task
from components.evaluation.spread import Spread
from pipelines.study.tables import METRICS, Metric, Row

PROTOCOL_NAMES = {
    "grouped": "grouped by vessel, epoch chosen inside the training folds",
    "published": "as published: folds of images, epoch chosen on the scored fold",
    "left_out": "one left out",
}
MODALITY_NAMES = {"single_stack": "single-stack", "multi_stack": "multi-stack"}


def heading(row: Row) -> str:
    """Name the block of a table that a row belongs to."""
    return f"{MODALITY_NAMES[row.cell.modality]}, {PROTOCOL_NAMES[row.cell.protocol]}"


def blocks(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Give the rows by modality and protocol, each under its heading."""
    names = list(dict.fromkeys(heading(row) for row in rows))
    for name in names:
        yield name, [row for row in rows if heading(row) == name]


def markdown(rows: Sequence[Row], title: str) -> str:
    """Give a table for people: mean ± SD, the best bold, the authors' figures beside."""
    if not rows:
        return ""
    metrics = METRICS[rows[0].cell.task]
    lines = [
        f"# {title}",
        "",
        "Mean ± SD over the folds, and below it the 95 % interval of the mean. Bold: the best.",
        "",
    ]
    for name, some in blocks(rows):
        lines += [f"## {name.capitalize()}", ""]
        lines += ["| backbone | " + " | ".join(_column_heads(metrics)) + " |"]
        lines += ["| --- |" + " --- |" * len(_column_heads(metrics))]
        lines += [f"| {row.label}{_incomplete(row)} | " + " | ".join(_cells(row, metrics)) + " |" for row in some]
        lines += [""]
    lines += [f"- {metric.label}: {metric.meaning}." for metric in metrics]
    if any(row.paper for row in rows):
        lines += ["- Paper: Ngo, Lee et al., Int. J. Stem Cells 2024, other images and folds; their SD divides by n."]
    return "\n".join(lines) + "\n"


def _column_heads(metrics: Sequence[Metric]) -> list[str]:
    return [head for metric in metrics for head in ([metric.label, "paper"] if _in_paper(metric) else [metric.label])]


def _in_paper(metric: Metric) -> bool:
    return metric.name in ("accuracy", "roc_auc_micro", "pr_auc_micro", "hit_rate", "hit_false_discovery_rate")


def _cells(row: Row, metrics: Sequence[Metric]) -> Iterator[str]:
    for metric in metrics:
        found = row.figures[metric.name]
        text = mean_and_sd(found.mean, found.sd, metric)
        text = f"**{text}**" if metric.name in row.best else text
        yield f"{text}<br>{interval(found, metric)}" if found.low is not None else text
        if _in_paper(metric):
            theirs = row.paper.get(metric.name)
            yield mean_and_sd(*theirs, metric) if theirs else "–"


def _incomplete(row: Row) -> str:
    return f" ({len(row.folds)} of {len(row.folds) + len(row.missing)} folds)" if row.missing else ""


def mean_and_sd(mean: float | None, sd: float | None, metric: Metric) -> str:
    """Write a mean with its standard deviation; shares as per cent."""
    if mean is None:
        return "–"
    text = _number(mean, metric)
    return text if sd is None else f"{text} ± {_number(sd, metric)}"


def interval(found: Spread, metric: Metric) -> str:
    """Write an interval, cut at what the figure can be."""
    if found.low is None or found.high is None:
        return "–"
    low, high = max(found.low, metric.least), min(found.high, metric.most)
    return f"{_number(low, metric)} to {_number(high, metric)}"


def _number(value: float, metric: Metric) -> str:
    return f"{100 * value:.1f} %" if metric.share else f"{value:.3f}"


def as_csv(rows: Sequence[Row]) -> str:
    """Give a row a cell: of each figure mean, SD, interval and number of folds, and the authors' mean and SD."""
    text = io.StringIO()
    if rows:
        metrics = METRICS[rows[0].cell.task]
        writer = csv.writer(text, lineterminator="\n")
        fields = msgspec.structs.fields(rows[0].cell)
        parts = ("mean", "sd", "low", "high", "folds", "paper_mean", "paper_sd")
        columns = [f"{metric.name}_{part}" for metric in metrics for part in parts]
        writer.writerow([*(field.name for field in fields), *columns, "beats_baseline", "best"])
        for row in rows:
            cells = [str(getattr(row.cell, field.name)) for field in fields]
            writer.writerow([*cells, *_csv_cells(row, metrics), row.beats_baseline or "", " ".join(row.best)])
    return text.getvalue()


def _csv_cells(row: Row, metrics: Sequence[Metric]) -> Iterator[object]:
    for metric in metrics:
        found, paper = row.figures[metric.name], row.paper.get(metric.name, ("", ""))
        for value in (found.mean, found.sd, found.low, found.high, found.n, *paper):
            yield "" if value is None else value


def as_json(rows: Sequence[Row]) -> bytes:
    """Give the rows with the figures of every fold."""
    return msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n"


def title(task: Task) -> str:
    """Give the heading of a task's table."""
    if task == Task.CONFLUENCE:
        return "Table 1: confluence classes, cross-validated"
    return "Table 2: abnormal cells, single-stack, cross-validated"
