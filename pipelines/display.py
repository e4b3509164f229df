"""What a person sees while a pipeline runs: a line a step, and a bar for the one in work."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from components.events import observed
from pipelines.steps import STEPS
from pipelines.summaries import summary

# Where the output is no terminal (CI, a log), a line of progress at most this often, in seconds.
QUIET_INTERVAL = 15.0


class RunDisplay:
    """Shows the events of a run on standard error; used as a context manager.

    Args:
        steps: Of the pipeline, in their order.
    """

    def __init__(self, steps: Sequence[str] = STEPS) -> None:
        self._steps = steps
        # This very file: while a pipeline runs, sys.stderr leads to its log.
        self._console = Console(file=sys.stderr, highlight=False)
        self._live = self._console.is_terminal
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
        self._bar: Any = None
        self._bar_name = ""
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def observe(self, event: dict[str, Any]) -> None:
        """Show one event."""
        match event["event"]:
            case "started":
                self._said = time.monotonic()
                self._show_bar(self._label(event["step"]), None, 0, None)
            case "progress":
                self._progress(event)
            case "finished":
                self._hide_bar()
                self._console.print(f"{self._label(event['step'])} {event['seconds']:7.1f} s  {summary(event)}")
            case "failed":
                self._hide_bar()
                self._console.print(f"{self._label(event['step'])}  [red]failed[/red]")

    def cached(self, step: str) -> None:
        """Say that a step's result was there already."""
        self._console.print(f"{self._label(step)}   cached")

    def _label(self, step: str) -> str:
        number = self._steps.index(step) + 1 if step in self._steps else 0
        return f"[{number:>2}/{len(self._steps)}] {step:<9}".replace("[", "\\[")

    def _progress(self, event: dict[str, Any]) -> None:
        total, done, note = event["total"], event["done"], event.get("note") or ""
        self._show_bar(f"        {event['task']}", total, done, note)
        if not self._live and time.monotonic() - self._said > QUIET_INTERVAL:
            self._said = time.monotonic()
            self._console.print(f"        {event['task']}: {done}/{total or '?'} {event['unit']} {note}")

    def _show_bar(self, name: str, total: int | None, done: int, note: str | None) -> None:
        if name != self._bar_name:
            self._hide_bar()
            self._bar_name, self._bar = name, self._bars.add_task(name, total=total, note="")
        self._bars.update(self._bar, total=total, completed=done, note=note or "")

    def _hide_bar(self) -> None:
        if self._bar is not None:
            self._bars.remove_task(self._bar)
        self._bar, self._bar_name = None, ""


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show on standard error what this process reports while it works."""
    with RunDisplay() as display, observed(display.observe):
        yield
