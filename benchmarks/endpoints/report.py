"""Figures as tables for people, and progress on standard error."""

import sys
import time
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
_STARTED = time.perf_counter()


def told(text: str) -> None:
    """Say on standard error how far it is."""
    print(f"{time.perf_counter() - _STARTED:6.0f} s  {text}", file=sys.stderr, flush=True)


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, least and most."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return median, ordered[0], ordered[-1]


def table(rows: Iterable[Row]) -> str:
    """Rows of the same fields as a Markdown table."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(names))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
