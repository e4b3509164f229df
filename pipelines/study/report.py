"""The study's files: both tables in three forms, and one HTML page that needs no scripts and no network."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup

from components.culture import CLASSES, Task
from components.errors import StorageError
from components.evaluation import plots
from components.evaluation.calibration import reliability
from components.evaluation.curves import precision_recall_curves, roc_curves
from components.evaluation.metrics import confusion, predicted_classes
from components.evaluation.report import page_environment
from components.imaging import probabilities
from components.provenance import environment
from pipelines.study import charts, writers
from pipelines.study.findings import findings
from pipelines.study.results import Cell, FoldResult
from pipelines.study.run import Study
from pipelines.study.tables import METRICS, Row

REPORT, STUDY = "report.html", "study.json"
TEMPLATE = "study.html.j2"


def write_all(study: Study, out: Path) -> dict[str, str]:
    """Write the tables and the report.

    Args:
        study: The finished study.
        out: Folder that gets the files; each is replaced as a whole.

    Returns:
        Path of each file by its name.

    Raises:
        StorageError: if the disk is full or cannot be written.
    """
    files: dict[str, bytes] = {}
    for name, rows in (("table1", study.table_1), ("table2", study.table_2)):
        if rows:
            files[f"{name}.md"] = writers.markdown(rows, writers.title(rows[0].cell.task)).encode()
            files[f"{name}.csv"] = writers.as_csv(rows).encode()
            files[f"{name}.json"] = writers.as_json(rows)
    files[STUDY] = msgspec.json.format(msgspec.json.encode(study), indent=1) + b"\n"
    files[REPORT] = render(study).encode()
    try:
        for name, content in files.items():
            partial = out / f"{name}.partial"
            partial.write_bytes(content)
            partial.replace(out / name)
    except OSError as error:
        raise StorageError(f"{out} cannot be written ({error.strerror}); free or unlock the disk") from error
    return {name: str(out / name) for name in files}


def render(study: Study) -> str:
    """Render the report as HTML."""
    return (
        page_environment("pipelines.study")
        .get_template(TEMPLATE)
        .render(
            s=study,
            created=datetime.now(UTC),
            findings=findings(study),
            tables=[_table(rows) for rows in (study.table_1, study.table_2) if rows],
            leak=_leak(study),
            clumps=study.clumps,
            sources=[row for row in study.table_1 if row.cell.protocol == "left_out"],
            details=_details(study),
            classes=CLASSES,
            environment=_environment(study),
            metrics=METRICS[Task.CONFLUENCE],
        )
    )


def _table(rows: Sequence[Row]) -> dict[str, Any]:
    task = rows[0].cell.task
    blocks = [
        {
            "heading": heading,
            "rows": some,
            "plot": charts.forest(f"{task}-{number}", some, METRICS[task][0]),
        }
        for number, (heading, some) in enumerate(writers.blocks(rows))
    ]
    return {"task": task, "title": writers.title(task), "metrics": METRICS[task], "blocks": blocks}


def _leak(study: Study) -> list[dict[str, Any]]:
    by_cell = {row.cell: row for row in study.table_1 + study.table_2}
    return [
        {
            "contrast": each,
            "published": by_cell[each.cell],
            "grouped": by_cell[msgspec.structs.replace(each.cell, protocol="grouped")],
            "figures": METRICS[each.cell.task][:3],
        }
        for each in study.leak
    ]


def _details(study: Study) -> list[dict[str, Any]]:
    """For each network, what its folds say together: curves, confusion, calibration, learning curves."""
    folds: dict[Cell, list[FoldResult]] = defaultdict(list)
    for result in study.results:
        folds[result.cell].append(result)
    rows = {row.cell: row for row in study.table_1 + study.table_2}
    return [_detail(number, rows[cell], some) for number, (cell, some) in enumerate(folds.items())]


def _detail(number: int, row: Row, folds: Sequence[FoldResult]) -> dict[str, Any]:
    name, task = f"net{number}", row.cell.task
    figure = "validation_accuracy" if task == Task.CONFLUENCE else "validation_average_precision"
    drawn = {"learning": charts.learning(f"{name}-learning", folds, figure)}
    told: dict[str, Any] = {"row": row, "heading": writers.heading(row), "folds": folds, "plots": drawn, "name": name}
    if task == Task.CONFLUENCE:
        truth, scores = _pooled(folds)
        drawn |= _curves(name, truth, scores)
        told["confusion"] = confusion(truth, predicted_classes(scores)).tolist()
    return told


def _pooled(folds: Sequence[FoldResult]) -> tuple[Any, Any]:
    """Put the calibrated answers of all folds together; each image was scored once."""
    truths, scores = [], []
    for fold in folds:
        if fold.answers is not None:
            truth, logits = fold.answers.arrays
            truths.append(truth)
            scores.append(probabilities(logits, fold.answers.temperature))
    return np.concatenate(truths), np.concatenate(scores)


def _curves(name: str, truth: Any, scores: Any) -> Mapping[str, Markup]:
    drawn = {
        "roc": plots.roc_plot(roc_curves(truth, scores)),
        "precision_recall": plots.precision_recall_plot(precision_recall_curves(truth, scores)),
        "reliability": plots.reliability_plot(reliability(scores, truth)),
    }
    # The same plots stand on the page once a network: their ids must not meet.
    return {key: charts.renamed(svg, name) for key, svg in drawn.items()}


def _environment(study: Study) -> dict[str, Any]:
    made = study.results[0].environment if study.results else {}
    devices = ", ".join(sorted({result.device for result in study.results}))
    return {**made, **environment(), "device": devices}
