"""`mscflow models list, show` and `mscflow report`: the registry and its evidence."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.output import json_option, say, table

if TYPE_CHECKING:
    from components.settings import Settings

DEFAULT_MODEL = "confluence-single-stack"
model_argument = click.argument("name", default=DEFAULT_MODEL)


def _settings() -> "Settings":
    from components.settings import load_settings

    return load_settings()


@click.command("list")
@click.argument("name", required=False)
@json_option
def list_(name: str | None, as_json: bool) -> None:
    """List the versions of all models, or of NAME, the newest first.

    \b
    Example:
      mscflow models list confluence-single-stack
    """
    from components.registry import steps

    rows = [steps.summary(version) for version in steps.list_versions(_settings().mlflow_uri, name)]
    if not rows and not as_json:
        click.echo("no model yet: 'mscflow run --data FOLDER' makes one")
        return
    say(
        rows,
        as_json,
        lambda: table(["model", "version", "aliases", "accuracy", "gate", "made", "digest"], map(_row, rows)),
    )


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    accuracy = None if row["accuracy"] is None else f"{row['accuracy']:.3f}"
    aliases = ", ".join(row["aliases"])
    return row["name"], row["version"], aliases, accuracy, row["gate"], row["created"], row["digest"][:12]


@click.command()
@model_argument
@click.argument("version", default="champion")
@json_option
def show(name: str, version: str, as_json: bool) -> None:
    """Show all that is recorded of VERSION (a number or an alias) of the model NAME.

    \b
    Examples:
      mscflow models show
      mscflow models show confluence-single-stack 3 --json
    """
    from components.registry import steps

    shown = steps.show(name, version, _settings().mlflow_uri)
    say(shown, as_json, lambda: _show(shown))


def _show(shown: dict[str, Any]) -> None:
    plain = {key: value for key, value in shown.items() if key not in {"metrics", "tags", "verdict"}}
    table(
        ["field", "value"],
        [(key, ", ".join(value) if isinstance(value, list) else value) for key, value in plain.items()],
    )
    table(["metric", "value"], [(key, f"{value:.4g}") for key, value in shown["metrics"].items()])
    if shown["verdict"]:
        _show_rules(shown["verdict"])


def _show_rules(record: dict[str, Any]) -> None:
    from components.evaluation.verdict import bound_of, figure_of
    from components.registry.verdicts import as_verdict

    verdict = as_verdict(record)
    table(
        ["rule", "figure", "bound", "verdict", "note"],
        [
            (rule.name, figure_of(rule), bound_of(rule), "met" if rule.passed else "NOT MET", rule.note)
            for rule in verdict.rules
        ],
    )


@click.command()
@click.argument("version")
@click.option("--model", "name", default=DEFAULT_MODEL, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Default: reports/MODEL-VERSION.html in the home.")
@json_option
def report(version: str, name: str, output: Path | None, as_json: bool) -> None:
    """Write the evidence on VERSION (a number or an alias) as one HTML page.

    \b
    Examples:
      mscflow report champion
      mscflow report 3 --model confluence-multi-stack --output v3.html
    """
    from components.registry import steps

    settings = _settings()
    number = steps.show(name, version, settings.mlflow_uri)["version"]
    page = output or settings.home / "reports" / f"{name}-{number}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    steps.write_version_report(name, number, settings.mlflow_uri, settings.home, page)
    say({"model": name, "version": number, "report": str(page)}, as_json, lambda: click.echo(f"wrote {page}"))
