"""How commands answer: one JSON object for machines, a table for people."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Add ``--json`` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")(command)


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show on standard error what this process reports while it works."""
    from pipelines import display

    with display.progress_shown():
        yield


def say(result: Any, as_json: bool, render: Callable[[], None]) -> None:
    """Print a result: as JSON, or as ``render`` shows it to people."""
    if as_json:
        click.echo(json.dumps(result, default=str))
    else:
        render()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table; a person's terminal gets borders and colour, a file gets neither."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    # Where no terminal sets a width (a file, a pipe), one that no table reaches, so that nothing is cut.
    # What is shown are names and sentences, in which brackets mean brackets.
    console = Console(width=None if sys.stdout.isatty() else 200, markup=False, emoji=False)
    if title:
        console.print(title, style="bold", highlight=False)
    made = Table(*columns, box=box.SIMPLE_HEAD if console.is_terminal else box.SIMPLE, pad_edge=False)
    for row in rows:
        made.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(made)
