"""The report's plots, as inline SVG that takes its colours from the page, so that it follows dark and light."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from components.culture import CLASSES
from components.evaluation.calibration import Bin
from components.evaluation.curves import MICRO, Curve
from components.evaluation.evidence import Epoch, Search, Trial

# Matplotlib wants colours; each of these stands for a CSS variable of the page and is replaced by it.
INK, MUTED, GRID, FIRST, SECOND = "#010101", "#010102", "#010103", "#010104", "#010105"
_CLASS_COLOURS = ("#010201", "#010202", "#010203", "#010204")
_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "rule",
    FIRST: "first",
    SECOND: "second",
    **{colour: f"class-{number}" for number, colour in enumerate(_CLASS_COLOURS, start=1)},
}
_DASHES: tuple[tuple[float, ...], ...] = ((5, 1.5), (3, 1.2), (1, 1), (6, 1.5, 1, 1.5))

# What a person has set in a matplotlibrc counts for the rest.
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mscflow",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "none",
    "lines.linewidth": 1.8,
    "mathtext.fontset": "dejavusans",
}


class Drawing:
    """One plot in the making; ``svg`` holds the result once its ``with`` block has ended."""

    axes: Axes
    svg: Markup = Markup()


@contextmanager
def drawing(name: str, description: str, size: tuple[float, float] = (4.8, 3.5)) -> Iterator[Drawing]:
    """Draw one plot in the page's style.

    Args:
        name: Begins the ids of its elements; no two plots of a page share one.
        description: For those who cannot see it.
        size: Width and height in inches; the page scales it.
    """
    made = Drawing()
    with mpl.rc_context(_STYLE):
        canvas = Canvas(figsize=size, layout="constrained")
        made.axes = canvas.add_subplot()
        yield made
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    made.svg = _inline(buffer.getvalue(), name, description)


def _inline(svg: str, name: str, description: str) -> Markup:
    """Make a stand-alone SVG file part of a page: unique ids, the page's colours and type, a description."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    opening, rest = svg.split(">", 1)
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    label = escape(description)
    return Markup(f'{opening} role="img" aria-label="{label}"><title>{label}</title>{rest}')  # noqa: S704  only our own text


def search_plot(search: Search, chosen: float) -> Markup:
    """Plot the trials' results over the learning rate, with the one that the model was then trained at marked."""
    tried = [trial for trial in search.trials if trial.value is not None]
    complete = [trial for trial in tried if trial.state.lower() == "complete"]
    with drawing("search", "Validation loss of each trial over its learning rate") as plot:
        axes = plot.axes
        axes.set_xscale("log")
        earlier = [trial for trial in tried if trial.state == "earlier"]
        stopped = [trial for trial in tried if trial not in complete and trial not in earlier]
        _dots(axes, earlier, marker=".", color=MUTED, label="of the search before", linestyle="none")
        _dots(axes, stopped, marker="x", color=MUTED, label="stopped early", linestyle="none")
        _dots(axes, complete, marker="o", color=FIRST, label="complete", linestyle="none")
        ring = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "linestyle": "none"}
        marked = [trial for trial in tried if math.isclose(trial.lr, chosen, rel_tol=1e-6)][:1]
        _dots(axes, marked, color=SECOND, label=f"chosen: {chosen:.2g}", **ring)
        axes.set(xlabel="learning rate (log scale)", ylabel="validation loss (nats)")
        axes.legend()
    return plot.svg


def _dots(axes: Axes, trials: Sequence[Trial], **style: object) -> None:
    if trials:
        axes.plot([trial.lr for trial in trials], [trial.value or 0.0 for trial in trials], **style)  # type: ignore[arg-type]  # keywords of any kind


def loss_plot(history: Sequence[Epoch], best_epoch: int) -> Markup:
    """Plot the losses over the epochs, with the chosen epoch marked."""
    with drawing("loss", "Training and validation loss over the epochs") as plot:
        epochs = [each.epoch for each in history]
        plot.axes.plot(epochs, [each.train_loss for each in history], color=FIRST, label="training", dashes=(4, 1.5))
        plot.axes.plot(epochs, [each.validation_loss for each in history], color=SECOND, label="validation")
        _mark_best(plot.axes, best_epoch)
        plot.axes.set(xlabel="epoch", ylabel="cross-entropy (nats)")
        plot.axes.legend()
    return plot.svg


def accuracy_plot(history: Sequence[Epoch], best_epoch: int) -> Markup:
    """Plot the validation accuracy over the epochs, with the chosen epoch marked."""
    with drawing("accuracy", "Validation accuracy over the epochs") as plot:
        share = [100 * each.validation_accuracy for each in history]
        plot.axes.plot([each.epoch for each in history], share, color=SECOND, label="validation")
        _mark_best(plot.axes, best_epoch)
        plot.axes.set(xlabel="epoch", ylabel="right answers (%)", ylim=(0, 103))
        plot.axes.legend(loc="lower right")
    return plot.svg


def _mark_best(axes: Axes, best_epoch: int) -> None:
    axes.axvline(best_epoch, color=INK, linewidth=1, dashes=(1, 2), label=f"best epoch: {best_epoch}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def roc_plot(curves: Sequence[Curve]) -> Markup:
    """Plot ROC curves with their areas."""
    with drawing("roc", "ROC curves, all classes together and each class against the rest", (4.8, 4.3)) as plot:
        plot.axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, dashes=(1, 2))
        _curves(plot.axes, curves, "default")
        plot.axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        plot.axes.legend(loc="lower right", title="area under the curve")
    return plot.svg


def precision_recall_plot(curves: Sequence[Curve]) -> Markup:
    """Plot precision-recall curves with their average precisions."""
    description = "Precision-recall curves, all classes together and each class against the rest"
    with drawing("precision-recall", description, (4.8, 4.3)) as plot:
        _curves(plot.axes, curves, "steps-pre")
        plot.axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        plot.axes.legend(loc="lower left", title="average precision")
    return plot.svg


def _curves(axes: Axes, curves: Sequence[Curve], drawstyle: str) -> None:
    # The micro-average last, on top.
    for curve in sorted(curves, key=lambda curve: curve.name == MICRO):
        if curve.name == MICRO:
            look: dict[str, object] = {"color": INK, "linewidth": 2.6}
            label = MICRO
        else:
            index = int(curve.name) - 1
            look = {"color": _CLASS_COLOURS[index], "linewidth": 1.5, "dashes": _DASHES[index]}
            label = f"{curve.name} {CLASSES[index].decision}"
        axes.plot(curve.x, curve.y, label=f"{label}: {curve.area:.3f}", drawstyle=drawstyle, **look)  # type: ignore[arg-type]  # keywords of any kind


def reliability_plot(bins: Sequence[Bin]) -> Markup:
    """Plot the accuracy of answers over their confidence, with Wilson intervals and the number of answers."""
    filled = [(b.confidence, b.accuracy, b.n) for b in bins if b.confidence is not None and b.accuracy is not None]
    with drawing("reliability", "Share of right answers over the model's confidence", (4.8, 4.3)) as plot:
        axes = plot.axes
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, dashes=(1, 2), label="perfectly calibrated")
        for confidence, accuracy, n in filled:
            low, high = _wilson(accuracy, n)
            axes.plot([confidence, confidence], [low, high], color=FIRST, linewidth=1.2)
            axes.annotate(str(n), (confidence, -0.06), ha="center", va="center", fontsize=9, color=MUTED)
        x, y = [each[0] for each in filled], [each[1] for each in filled]
        axes.plot(x, y, color=FIRST, marker="o", linewidth=0, label="test answers, 95 % interval")
        axes.set(xlabel="confidence (calibrated); above it the number of images", ylabel="share of right answers")
        axes.set(xlim=(0, 1.02), ylim=(-0.1, 1.02), yticks=[0, 0.2, 0.4, 0.6, 0.8, 1])
        axes.legend(loc="upper left")
    return plot.svg


def _wilson(share: float, n: int) -> tuple[float, float]:
    z2 = 1.96**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5 * 1.96 / (1 + z2 / n)
    return centre - half, centre + half
