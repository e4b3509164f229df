"""`mscflow settings`: what can be set, and what it is set to."""

from collections.abc import Iterator
from typing import Any

import click

from pipelines.cli.output import json_option, say, table


@click.command()
@json_option
def settings(as_json: bool) -> None:
    """Show every setting and its value after all layers.

    Layers: defaults < preset < mscflow.toml < MSCFLOW_* environment < command line.
    MSCFLOW_TRAINING__EPOCHS=5 sets training.epochs.
    """
    from components.settings import load_settings

    values = load_settings().model_dump(mode="json")
    say(values, as_json, lambda: table(["setting", "value"], _flat(values)))


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
