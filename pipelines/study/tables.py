"""Tables 1 and 2: what each cell's folds come to, beside the authors' figures and the baseline's."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Literal

import msgspec

from components.culture import Task
from components.evaluation import published
from components.evaluation.spread import Spread, difference, spread
from pipelines.study.results import Cell


class Metric(msgspec.Struct, frozen=True):
    """A column of a table.

    Attributes:
        name: As in ``FoldResult.figures``.
        label: For people.
        rises: Whether more is better.
        share: Whether it is a share, told as per cent.
        least: What it cannot be below, where its interval is cut when told.
        most: What it cannot be above.
        meaning: What it is, in a few words.
    """

    name: str
    label: str
    rises: bool = True
    share: bool = False
    meaning: str = ""
    least: float = 0.0
    most: float = 1.0


TABLE_1 = (
    Metric("accuracy", "Accuracy", share=True, meaning="answers that name the right class"),
    Metric("roc_auc_micro", "ROC AUC", meaning="micro-averaged, one class against the rest"),
    Metric("pr_auc_micro", "PR AUC", meaning="average precision, micro-averaged"),
    Metric("within_one_class", "Within one class", share=True, meaning="right or one class off"),
    Metric("quadratic_kappa", "Quadratic kappa", meaning="agreement beyond chance; far misses weigh more", least=-1),
    Metric(
        "mean_class_error", "Mean class error", rises=False, meaning="classes that an answer is off, on average", most=3
    ),
    Metric(
        "missed_overgrowth",
        "Missed overgrowth",
        rises=False,
        share=True,
        meaning="overgrown images called seeding or media change",
    ),
    Metric("ece_before", "ECE before", rises=False, meaning="calibration error as trained"),
    Metric("ece_after", "ECE after", rises=False, meaning="calibration error after temperature scaling"),
)
TABLE_2 = (
    Metric("hit_rate", "Hit rate", share=True, meaning="as the paper counts: the best box above 0.5 meets a cell"),
    Metric("hit_false_discovery_rate", "FDR of best boxes", rises=False, share=True, meaning="of those best boxes"),
    Metric("recall", "Recall", share=True, meaning="of all abnormal cells, those found"),
    Metric("false_discovery_rate", "FDR", rises=False, share=True, meaning="of all boxes, those on no abnormal cell"),
    Metric("average_precision", "AP at IoU 0.5", meaning="area under precision over recall, all boxes"),
    Metric("froc", "FROC", meaning="mean recall at 1/8 to 8 false boxes an image"),
)
METRICS = {Task.CONFLUENCE: TABLE_1, Task.ABNORMAL_CELLS: TABLE_2}

# Rows of these are no networks; see ``components.evaluation.baseline``.
BASELINES = {
    "local_contrast": "Local contrast, fixed",
    "local_contrast_fitted": "Local contrast, threshold of training images",
}
# Fewer of its points lost or won than this cannot be told from chance in a table.
_EVEN = 1e-9


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row.

    Attributes:
        label: The cell's name for people.
        folds: Names of the folds that have a result.
        missing: Names of those that have none, because they failed.
        values: Each figure, fold by fold.
        figures: Each figure's mean, SD and interval.
        paper: The authors' mean and SD, where they have the figure.
        best: Figures that no other row of the same modality and protocol has better.
        beats_baseline: Against the better baseline: ``yes``, ``no``, ``unclear``; None without one.
        advantage: Accuracy less the better baseline's, fold by fold.
    """

    cell: Cell
    label: str
    folds: tuple[str, ...]
    missing: tuple[str, ...]
    values: dict[str, tuple[float | None, ...]]
    figures: dict[str, Spread]
    paper: dict[str, published.MeanAndSd]
    best: tuple[str, ...] = ()
    beats_baseline: Literal["yes", "no", "unclear"] | None = None
    advantage: Spread | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether the row is no network's."""
        return self.cell.backbone in BASELINES


class Contrast(msgspec.Struct, frozen=True, kw_only=True):
    """What one way of doing it is worth against another, for one network.

    Attributes:
        cell: Of the first way.
        label: The network's name for people.
        gains: Figures of the first way less those of the second.
    """

    cell: Cell
    label: str
    gains: dict[str, Spread]


Figures = Mapping[str, float | None]


def make_row(cell: Cell, folds: Mapping[str, Figures | None]) -> Row:
    """Summarise one cell.

    Args:
        cell: The cell.
        folds: The figures of each fold by its name; None for one that failed.
    """
    made = {name: figures for name, figures in folds.items() if figures is not None}
    values = {
        metric.name: tuple(figures.get(metric.name) for figures in made.values()) for metric in METRICS[cell.task]
    }
    return Row(
        cell=cell,
        label=_label(cell),
        folds=tuple(made),
        missing=tuple(name for name in folds if name not in made),
        values=values,
        figures={name: spread(each) for name, each in values.items()},
        paper=_paper(cell),
    )


def _label(cell: Cell) -> str:
    name = BASELINES.get(cell.backbone) or published.label(cell.backbone)
    how = [cell.equalisation] if cell.equalisation != "none" else []
    how += ["clumps masked out"] if cell.clumps == "masked" else []
    return f"{name} ({', '.join(how)})" if how else name


def _paper(cell: Cell) -> dict[str, published.MeanAndSd]:
    if cell.task == Task.CONFLUENCE:
        return published.table_1(cell.backbone, cell.modality)
    found = {"hit_rate": "hit_rate", "hit_false_discovery_rate": "false_discovery_rate"}
    theirs = published.table_2(cell.backbone)
    summaries = {mine: spread(theirs[name]) for mine, name in found.items()} if theirs else {}
    return {name: (each.mean or 0.0, each.sd or 0.0) for name, each in summaries.items()}


def judge(rows: Iterable[Row]) -> list[Row]:
    """Mark the best figures of each modality and protocol, and hold each network against the baseline."""
    blocks: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        blocks[row.cell.task, row.cell.modality, row.cell.protocol].append(row)
    return [judged for block in blocks.values() for judged in _judge_block(block)]


def _judge_block(rows: Sequence[Row]) -> list[Row]:
    best = {metric.name: _best(rows, metric) for metric in METRICS[rows[0].cell.task]}
    baseline = max(
        (row for row in rows if row.is_baseline), key=lambda row: row.figures["accuracy"].mean or 0.0, default=None
    )
    return [_judged(row, best, baseline) for row in rows]


def _best(rows: Sequence[Row], metric: Metric) -> float | None:
    means = [row.figures[metric.name].mean for row in rows]
    defined = [mean for mean in means if mean is not None]
    return (max if metric.rises else min)(defined) if len(defined) > 1 else None


def _judged(row: Row, best: Mapping[str, float | None], baseline: Row | None) -> Row:
    marked = tuple(
        name
        for name, value in best.items()
        if value is not None and (mean := row.figures[name].mean) is not None and abs(mean - value) < _EVEN
    )
    if baseline is None or row.is_baseline:
        return msgspec.structs.replace(row, best=marked)
    theirs = dict(zip(baseline.folds, baseline.values["accuracy"], strict=True))
    gain = difference(row.values["accuracy"], [theirs.get(name) for name in row.folds], paired=True)
    return msgspec.structs.replace(row, best=marked, beats_baseline=_verdict(gain), advantage=gain)


def _verdict(gain: Spread) -> Literal["yes", "no", "unclear"] | None:
    if gain.mean is None:
        return None
    if gain.mean <= 0:
        return "no"
    return "yes" if gain.low is not None and gain.low > 0 else "unclear"


def contrasts(rows: Sequence[Row], field: str, first: str, second: str, *, paired: bool) -> list[Contrast]:
    """Compare rows that differ in one field of their cells alone.

    Args:
        rows: All rows.
        field: ``protocol`` or ``clumps``.
        first: Value of the field whose figures are held ...
        second: ... against those of this one.
        paired: Whether their folds are the same images.
    """
    by_cell = {row.cell: row for row in rows}
    found = []
    for cell, row in by_cell.items():
        other = by_cell.get(msgspec.structs.replace(cell, **{field: second}))
        if getattr(cell, field) == first and other is not None and row.folds and other.folds:
            gains = {
                name: difference(values, other.values[name], paired=paired and row.folds == other.folds)
                for name, values in row.values.items()
            }
            plain = msgspec.structs.replace(cell, clumps="kept") if field == "clumps" else cell
            found.append(Contrast(cell=cell, label=_label(plain), gains=gains))
    return found


def mean_gain(found: Sequence[Contrast], figure: str) -> float | None:
    """Give the mean of a gain over networks."""
    gains = [gain for each in found if (gain := each.gains[figure].mean) is not None]
    return fmean(gains) if gains else None
