"""What an endpoint said of images, as a table, as JSON and as CSV."""

import csv
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from components.endpoint.client import Answer
from components.endpoint.overlay import why_not
from components.endpoint.prediction import AnyPrediction, CellsPrediction, CulturePrediction, Prediction
from components.errors import DataError, InputError
from pipelines.cli.output import say, table

COLUMNS = ("image", "class", "decision", "confidence", "cells", "note")
FIRST = ("modality", "class", "name", "decision", "confidence", "probabilities", "count", "cells")


class Asked(NamedTuple):
    """An image that was asked about.

    Attributes:
        overlay: Where its picture was written, if it was.
        problem: Why it was not, though it was wanted.
    """

    answer: Answer
    overlay: Path | None = None
    problem: InputError | None = None

    @property
    def error(self) -> InputError | None:
        """What went wrong with it."""
        return self.answer.error or self.problem


def show(asked: Sequence[Asked], *, as_json: bool, as_csv: bool) -> None:
    """Print what came back."""
    if as_csv:
        _write_csv([_flat(_row(each)) for each in asked])
    else:
        say([_row(each) for each in asked], as_json, lambda: _show_table(asked))


def printable(path: Path) -> str:
    """Give a path's name as text, whatever bytes a file system allows in it."""
    return os.fsencode(path).decode(errors="replace")


def complain(asked: Sequence[Asked]) -> None:
    """End with an error where an image has no answer.

    Raises:
        DataError: naming how many, and the first.
    """
    failed = [each.error for each in asked if each.error is not None]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise DataError(f"{len(failed)} of {len(asked)} images could not be dealt with: {failed[0]}{more}")


def _row(asked: Asked) -> dict[str, Any]:
    """One image for machines: the confluence model's fields at the top, the detector's in ``abnormal_cells``."""
    prediction = asked.answer.prediction
    row: dict[str, Any] = {"image": asked.answer.name}
    if prediction is not None:
        fields = msgspec.to_builtins(prediction)
        fields |= fields.pop("confluence", {})
        cells = {"abnormal_cells": fields.pop("abnormal_cells")} if "abnormal_cells" in fields else {}
        row |= {**{name: fields[name] for name in FIRST if name in fields}, **fields, **cells}
    if asked.overlay is not None:
        row["overlay"] = printable(asked.overlay)
    if asked.error is not None:
        row["error"] = str(asked.error)
    return row


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A row without depth: beside the confluence the detector's fields begin with ``cells_``; boxes are JSON."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "probabilities":
            flat |= {f"{prefix}probability_{name}": each for name, each in value.items()}
        elif isinstance(value, dict):
            flat |= _flat(value, "cells_")
        elif key == "cells":
            flat["cells"] = json.dumps(value)
        elif key != "abnormal_cells":
            flat[f"{prefix}{key}"] = value
    return flat


def _write_csv(rows: list[dict[str, Any]]) -> None:
    columns = dict.fromkeys(key for row in rows for key in row if key not in {"overlay", "error"})
    last = [key for key in ("overlay", "error") if any(key in row for row in rows)]
    writer = csv.DictWriter(sys.stdout, [*columns, *last])
    writer.writeheader()
    writer.writerows(rows)


def _show_table(asked: Sequence[Asked]) -> None:
    rows = [_for_people(each) for each in asked]
    columns = [name for name in COLUMNS if any(row.get(name) for row in rows)]
    table(columns, ([row.get(name) for name in columns] for row in rows))
    parts = [part for each in asked for part in _parts(each.answer.prediction)]
    models = dict.fromkeys(f"{part.model} version {part.model_version}" for part in parts)
    if models:
        click.echo(f"answered by {', '.join(models)}")
    if drawn := [each.overlay for each in asked if each.overlay is not None]:
        where = printable(Path(os.path.commonpath(drawn)))
        click.echo(f"overlays: {where}" if len(drawn) == 1 else f"overlays: {len(drawn)} in {where}")


def _for_people(asked: Asked) -> dict[str, str]:
    parts = _parts(asked.answer.prediction)
    row = {"image": asked.answer.name}
    for part in parts:
        if isinstance(part, Prediction):
            row |= _confluence(part)
        else:
            row["cells"] = "abstains" if part.abstain else str(part.count)
    notes = dict.fromkeys(why_not(part) for part in parts if part.abstain)
    if asked.error is not None:
        notes[str(asked.error).removeprefix(f"{asked.answer.name}: ")] = None
    row["note"] = "; ".join(notes)
    return row


def _confluence(part: Prediction) -> dict[str, str]:
    if not part.abstain:
        return {
            "class": str(part.confluence_class),
            "decision": part.decision or "",
            "confidence": f"{part.confidence:.2f}",
        }
    # What an unsure model leans to is worth a look; of an image unlike all that it knows it has nothing to say.
    leaning = {"class": f"({part.confluence_class})", "confidence": f"({part.confidence:.2f})"}
    return {"decision": "abstains", **(leaning if part.reason == "unsure" else {})}


def _parts(prediction: AnyPrediction | None) -> list[Prediction | CellsPrediction]:
    if isinstance(prediction, CulturePrediction):
        return [part for part in (prediction.confluence, prediction.abnormal_cells) if part is not None]
    return [prediction] if prediction is not None else []
