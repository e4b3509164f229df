"""What a person sees while a study runs: a row a cell, and what is left to do."""

import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from components.culture import Task
from pipelines.study.forecast import Forecast, Left, told
from pipelines.study.plan import Plan, Unit
from pipelines.study.results import Cell, FoldResult

# Where the output is no terminal, a line of what is left at most this often, in seconds.
QUIET_INTERVAL = 30.0

_FIGURE = {Task.CONFLUENCE: "accuracy", Task.ABNORMAL_CELLS: "average_precision"}
_FIGURE_NAMES = {Task.CONFLUENCE: "accuracy", Task.ABNORMAL_CELLS: "AP"}


class StudyDisplay:
    """Shows a study on standard error; used as a context manager around the making of its folds."""

    def __init__(self, plan: Plan, forecast: Forecast) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._units = {unit.key: unit for unit in plan.units}
        self._forecast = forecast
        self._cells: dict[Cell, list[Unit]] = {}
        for unit in plan.units:
            self._cells.setdefault(unit.cell, []).append(unit)
        self._now: dict[str, str] = {}
        self._made: dict[str, FoldResult] = {}
        self._failed: set[str] = set()
        self._started = self._said = time.monotonic()
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._shown = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        self.tick()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._now.clear()
        if self._console.is_terminal:
            self._live.update(self._view(), refresh=True)
            self._live.stop()

    def found(self, key: str, result: FoldResult) -> None:
        """Show a fold that was made before."""
        self._made[key] = result

    def observe(self, event: Mapping[str, Any]) -> None:
        """Show one event of a worker."""
        key = event["key"]
        unit = self._units[key]
        match event["event"]:
            case "begun":
                self._now[key] = "getting ready"
            case "trial":
                done, total = event["done"], event["total"]
                self._now[key] = f"search: trial {done + 1} of {total}" if done < total else "training begins"
            case "epoch":
                name = _FIGURE_NAMES[unit.cell.task]
                self._now[key] = f"epoch {event['epoch']}/{unit.training['epochs']}, {name} {event['figure']:.2f}"
            case "done" | "failed":
                self._now.pop(key, None)

    def made(self, key: str, result: FoldResult | None) -> None:
        """Show a fold that is finished; None for one that failed."""
        if result is None:
            self._failed.add(key)
        else:
            self._made[key] = result
        if not self._console.is_terminal:
            self._console.print(self._line(self._units[key], result), soft_wrap=True)

    def tick(self) -> None:
        """Show the time that is left."""
        now = time.monotonic()
        if self._console.is_terminal:
            if now - self._shown > 0.2:
                self._shown = now
                self._live.update(self._view(), refresh=True)
        elif now - self._said > QUIET_INTERVAL:
            self._said = now
            busy = "; ".join(f"{_name(self._units[key])}: {what}" for key, what in self._now.items())
            self._console.print(f"        {self._summary().plain}{f'; {busy}' if busy else ''}", soft_wrap=True)

    def _line(self, unit: Unit, result: FoldResult | None) -> str:
        count = f"[{len(self._made) + len(self._failed):>3}/{len(self._units)}]".replace("[", "\\[")
        if result is None:
            return f"{count} {_name(unit)}  failed"
        figure = _said(result.figures.get(_FIGURE[unit.cell.task]))
        what = f"{_FIGURE_NAMES[unit.cell.task]} {figure}, {len(result.history)} epochs, {told(result.seconds)}"
        return f"{count} {_name(unit)}  {what}; {_left(self._forecast.left())}"

    def _view(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("images", "backbone", "protocol", "folds", "mean", "left", "now"):
            table.add_column(column, no_wrap=True, justify="right" if column in ("mean", "left") else "left")
        for cell, units in self._cells.items():
            table.add_row(*self._row(cell, units))
        return Group(table, self._summary())

    def _row(self, cell: Cell, units: list[Unit]) -> Iterable[RenderableType]:
        figures = [self._made[unit.key].figures.get(_FIGURE[cell.task]) for unit in units if unit.key in self._made]
        defined = [figure for figure in figures if figure is not None]
        now = [f"{unit.fold.name}: {self._now[unit.key]}" for unit in units if unit.key in self._now]
        left = self._forecast.left([unit.key for unit in units])
        how = [cell.protocol.replace("_", " ")]
        how += [cell.equalisation] if cell.equalisation != "none" else []
        how += ["clumps masked"] if cell.clumps == "masked" else []
        images = cell.modality.replace("_", "-") + (" cells" if cell.task == Task.ABNORMAL_CELLS else "")
        yield images
        yield cell.backbone
        yield ", ".join(how)
        yield Text.assemble(*(self._mark(unit) for unit in units))
        yield _said(sum(defined) / len(defined) if defined else None)
        yield "" if left.most == 0 else "?" if left.most is None else told(left.likely or left.most)
        yield Text("; ".join(now), style="dim")

    def _mark(self, unit: Unit) -> tuple[str, str]:
        if unit.key in self._made:
            return "●", "green"
        if unit.key in self._failed:
            return "✗", "red"
        return ("◐", "yellow") if unit.key in self._now else ("○", "dim")

    def _summary(self) -> Text:
        done = len(self._made) + len(self._failed)
        elapsed = told(time.monotonic() - self._started)
        text = f"{done} of {len(self._units)} folds made; {elapsed} so far; {_left(self._forecast.left())}"
        return Text(text, style="bold")


def _name(unit: Unit) -> str:
    return f"{unit.cell.name} fold {unit.fold.name}"


def _said(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.3f}"


def _left(left: Left) -> str:
    if left.likely is None or left.most is None:
        return "time left: known after the first epoch"
    if left.most == 0:
        return "nothing left"
    guess = ", guessed where a backbone has not begun" if left.guessed else ""
    if told(left.likely) == told(left.most):
        return f"at most {told(left.most)} left{guess}"
    return f"about {told(left.likely)} left, at most {told(left.most)}{guess}"
