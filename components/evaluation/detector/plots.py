"""The plots of a detector's report."""

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from components.evaluation.curves import Curve
from components.evaluation.detection import FROC_RATES
from components.evaluation.detector.evidence import Epoch
from components.evaluation.plots import FIRST, INK, MUTED, SECOND, drawing

_SQUARE = (4.8, 4.3)


def precision_recall_plot(curve: Curve, recall: float | None, false_discovery: float | None) -> Markup:
    """Plot precision over recall, with the point at which the detector works."""
    with drawing("precision-recall", "Precision over recall, as the least score falls", _SQUARE) as plot:
        plot.axes.plot(
            curve.x, curve.y, color=FIRST, drawstyle="steps-pre", label=f"average precision {curve.area:.3f}"
        )
        if recall is not None and false_discovery is not None:
            plot.axes.plot([recall], [1 - false_discovery], "o", color=SECOND, label="at the chosen threshold")
        plot.axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
        plot.axes.legend(loc="lower left")
    return plot.svg


def froc_plot(curve: Curve, recall: float | None, false_per_image: float | None) -> Markup:
    """Plot recall over false boxes an image on a logarithmic scale, with the point at which the detector works."""
    with drawing("froc", "Recall over false boxes an image, as the least score falls", _SQUARE) as plot:
        axes = plot.axes
        low, high = FROC_RATES[0] / 4, FROC_RATES[-1]
        points = [(0.0, low), *((y, max(x, low)) for x, y in zip(curve.x, curve.y, strict=True))]
        # Recall stays where it is once the detector has no more boxes to give.
        points.append((points[-1][0], max(high, points[-1][1])))
        axes.plot([x for _, x in points], [y for y, _ in points], color=FIRST, drawstyle="steps-post")
        axes.plot([], [], color=FIRST, label=f"mean recall at the ticks {curve.area:.3f}")
        if recall is not None and false_per_image is not None:
            axes.plot([max(false_per_image, low)], [recall], "o", color=SECOND, label="at the chosen threshold")
        axes.set_xscale("log", base=2)
        axes.set_xticks(FROC_RATES, ["1/8", "1/4", "1/2", "1", "2", "4", "8"])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.set(xlabel="false boxes an image", ylabel="recall", xlim=(low, high), ylim=(-0.01, 1.02))
        axes.legend(loc="lower right")
    return plot.svg


def loss_plot(history: Sequence[Epoch], best_epoch: int) -> Markup:
    """Plot the losses over the epochs, with the chosen epoch marked."""
    with drawing("loss", "Training and validation loss over the epochs") as plot:
        epochs = [each.epoch for each in history]
        plot.axes.plot(epochs, [each.train_loss for each in history], color=FIRST, label="training", dashes=(4, 1.5))
        plot.axes.plot(epochs, [each.validation_loss for each in history], color=SECOND, label="validation")
        plot.axes.axvline(best_epoch, color=INK, linewidth=1, dashes=(1, 2), label=f"best epoch: {best_epoch}")
        plot.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.axes.set(xlabel="epoch", ylabel="focal loss and smooth L1")
        plot.axes.legend()
    return plot.svg


def progress_plot(history: Sequence[Epoch], best_epoch: int) -> Markup:
    """Plot the average precision on validation images over the epochs, with the chosen epoch marked."""
    with drawing("progress", "Average precision on validation images over the epochs") as plot:
        epochs = [each.epoch for each in history]
        plot.axes.plot(epochs, [each.validation_average_precision for each in history], color=SECOND)
        plot.axes.axvline(best_epoch, color=MUTED, linewidth=1, dashes=(1, 2))
        plot.axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plot.axes.set(xlabel="epoch", ylabel="validation average precision", ylim=(0, 1.03))
    return plot.svg
