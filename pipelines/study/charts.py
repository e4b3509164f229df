"""The plots that only a study has: networks side by side, and the course of all folds."""

import re
from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from components.evaluation.plots import FIRST, GRID, INK, MUTED, SECOND, drawing
from pipelines.study.results import FoldResult
from pipelines.study.tables import Metric, Row

_ROW = 0.42


def forest(name: str, rows: Sequence[Row], metric: Metric) -> Markup:
    """Draw a figure of each row: its folds, its mean with the 95 % interval, and the authors' mean and SD."""
    shown = [row for row in rows if row.figures[metric.name].mean is not None]
    if not shown:
        return Markup()
    with drawing(name, f"{metric.label} of each network, with its folds", (7.2, 1.1 + _ROW * len(shown))) as made:
        axes, scale = made.axes, 100 if metric.share else 1
        for place, row in enumerate(reversed(shown)):
            _draw_row(axes, place, row, metric, scale)
        axes.set_yticks(range(len(shown)), [row.label for row in reversed(shown)])
        axes.set(xlabel=f"{metric.label.lower()} ({'%' if metric.share else '0 to 1'})", ylim=(-0.7, len(shown) - 0.3))
        axes.set_xlim(right=min(axes.get_xlim()[1], 1.02 * scale))
        axes.grid(visible=False, axis="y")
        axes.plot([], [], "o", color=FIRST, label="mean, 95 % interval")
        axes.plot([], [], "|", color=MUTED, markersize=9, label="folds")
        if any(metric.name in row.paper for row in shown):
            axes.plot([], [], "D", color=SECOND, markersize=5, label="paper: mean ± SD, their images")
        made.axes.figure.legend(loc="outside upper left", ncols=3)
    return made.svg


def _draw_row(axes: Axes, place: int, row: Row, metric: Metric, scale: int) -> None:
    found, paper = row.figures[metric.name], row.paper.get(metric.name)
    axes.axhline(place, color=GRID, linewidth=0.8, zorder=0)
    values = [value * scale for value in row.values[metric.name] if value is not None]
    axes.plot(values, [place] * len(values), "|", color=MUTED, markersize=9)
    if found.low is not None and found.high is not None:
        low, high = max(found.low, metric.least), min(found.high, metric.most)
        axes.plot([low * scale, high * scale], [place, place], color=FIRST, linewidth=2.4, solid_capstyle="round")
    colour = MUTED if row.is_baseline else FIRST
    axes.plot([(found.mean or 0.0) * scale], [place], "o", color=colour, markersize=7)
    if paper:
        mean, sd = (part * scale for part in paper)
        axes.plot([mean - sd, mean + sd], [place - 0.28] * 2, color=SECOND, linewidth=1.2)
        axes.plot([mean], [place - 0.28], "D", color=SECOND, markersize=5)


def learning(name: str, folds: Sequence[FoldResult], figure: str) -> Markup:
    """Draw the loss and the followed figure of all folds over the epochs; the chosen epochs are marked."""
    words = figure.removeprefix("validation_").replace("_", " ")
    with drawing(name, f"Training and validation loss, and validation {words}, of every fold", (4.8, 4.3)) as made:
        axes = made.axes
        other = axes.twinx()
        for number, fold in enumerate(folds):
            epochs = [epoch["epoch"] for epoch in fold.history]
            best = fold.history[fold.best_epoch - 1]
            # One entry in the legend stands for the folds' lines.
            texts = ("training loss", "validation loss", f"validation {words}")
            told = [text if number == 0 else None for text in texts]
            course = {
                name: [epoch[name] for epoch in fold.history] for name in ("train_loss", "validation_loss", figure)
            }
            axes.plot(epochs, course["train_loss"], color=FIRST, lw=0.9, dashes=(4, 1.5), label=told[0])
            axes.plot(epochs, course["validation_loss"], color=FIRST, lw=1.2, label=told[1])
            axes.plot([best["epoch"]], [best["validation_loss"]], "o", color=INK, markersize=4)
            other.plot(epochs, course[figure], color=SECOND, lw=1.2, label=told[2])
        axes.set(xlabel="epoch (dots: the chosen ones)", ylabel="loss")
        axes.set_ylim(bottom=0)
        other.set(ylabel=words, ylim=(0, 1.03))
        other.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        lines = [*axes.get_legend_handles_labels()[0], *other.get_legend_handles_labels()[0]]
        axes.figure.legend(handles=lines, loc="outside upper left", ncols=2)
    return made.svg


def renamed(svg: Markup, name: str) -> Markup:
    """Give a drawn plot ids of its own, so that it can stand on a page more than once."""
    text = re.sub(r'\bid="', f'id="{name}-', svg)
    return Markup(re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text))  # noqa: S704  only what plots has drawn
