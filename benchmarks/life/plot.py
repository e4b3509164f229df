"""The year as a picture: accuracy on the first test images and on those of the day, and what happened when."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"product": "#0b62a8", "never": "#5b6571", "always": "#b4500b"}
LABELS = {"product": "screened and judged", "never": "never retrained", "always": "every model released"}
_DASHES = {"product": (None, None), "never": (1.5, 1.5), "always": (5, 2)}
_EVENTS = ("alarm", "stopped", "refused", "released")
_MARKS = {"alarm": "^", "stopped": "s", "refused": "x", "released": "o"}
_TOLD = {
    "alarm": "drift alarm",
    "stopped": "batch stopped",
    "refused": "model refused",
    "released": "model released",
}


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw a result of the benchmark as a PNG file."""
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.5, 9), layout="constrained")
        frozen, current, events = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.6))
        _accuracy(frozen, result, "frozen", "on the first test images, %")
        _accuracy(current, result, "current", "on images of the day, %")
        _happenings(events, result)
        lows = [100 * row[which] for rows in result["ways"].values() for row in rows for which in ("frozen", "current")]
        for axes in (frozen, current):
            axes.set_ylim(10 * ((min(lows) - 8) // 10), 100)
        frozen.legend(loc="lower left", frameon=False, ncols=3)
        frozen.set_title("Right answers of the model that serves", loc="left")
        figure.savefig(path, dpi=110)


def _accuracy(axes: Axes, result: dict[str, Any], which: str, label: str) -> None:
    for way, colour in COLOURS.items():
        rows = result["ways"][way]
        x, y = [row["number"] for row in rows], [100 * row[which] for row in rows]
        axes.plot(x, y, color=colour, dashes=_DASHES[way], linewidth=2, marker=".", label=LABELS[way])
    axes.set(ylabel=label)
    axes.grid(axis="y", color="#dfe3e8")


def _happenings(axes: Axes, result: dict[str, Any]) -> None:
    rows = result["ways"]["product"]
    for height, event in enumerate(_EVENTS):
        x = [row["number"] for row in rows if happened(row, event)]
        axes.plot(x, [height] * len(x), _MARKS[event], color=COLOURS["product"], markersize=8, markeredgewidth=2)
    axes.set_yticks(range(len(_EVENTS)), [_TOLD[event] for event in _EVENTS])
    axes.set_ylim(-0.6, len(_EVENTS) - 0.4)
    ticks = [row["number"] for row in rows]
    names = [f"{row['number']}" + ("" if row["kind"] == "usual" else f"\n{row['kind']}") for row in rows]
    axes.set_xticks(ticks, names, rotation=0, fontsize=8)
    axes.set_xlabel("batch")
    axes.grid(axis="x", color="#dfe3e8")


def happened(row: dict[str, Any], event: str) -> bool:
    """Whether something came of a batch; ``refused`` is a model that was made and not released."""
    if event == "alarm":
        return bool(row.get("alarm"))
    if event == "stopped":
        return row["number"] > 0 and row["verdict"] in ("stopped", "queued", "failed")
    learnt = row["verdict"] == "admitted" or "labelled" in row
    return learnt and (row["released"] if event == "released" else not row["released"])
