"""`mscflow pipelines schedule`: the recurring retraining on Kubeflow Pipelines."""

from pathlib import Path
from typing import Any

import click

from components.errors import InputError
from pipelines.cli.compile import digests_option
from pipelines.cli.kubeflow import api_of, api_options, load_api
from pipelines.cli.output import Command, json_option, say, table
from pipelines.cli.run import load, settings_options
from pipelines.cli.submit import package


@click.group()
def schedule() -> None:
    """Retrain on what arrived, again and again: a recurring run of the pipeline retrain."""


@schedule.command("create")
@click.argument("watched")
@click.option("--every", help="Interval, such as 15m, 6h or 1d; default: 1h.")
@click.option("--cron", help="Instead: a cron expression in UTC, such as '0 3 * * *' for 3:00 each day.")
@click.option("--name", help="Default: retrain- and the lineage.")
@click.option("--file", "compiled", type=click.Path(path_type=Path), help="Compiled pipeline; default: compiled now.")
@digests_option
@click.option("--ref", help="Lineage that batches are added to; default: that of the champion.")
@click.option("--task", help="confluence (default) or abnormal_cells.")
@click.option("--modality", help="single_stack (default) or multi_stack.")
@api_options
@settings_options
@json_option
def create(watched: str, every: str | None, cron: str | None, name: str | None, as_json: bool, **given: Any) -> None:
    """Look for batches below WATCHED (s3://bucket/prefix) at each interval, and retrain on the oldest.

    The same command again changes nothing; with other settings it replaces the recurring run of that name. Two runs
    never work on one lineage at a time, and one that finds nothing new ends at once.

    \b
    Examples:
      mscflow pipelines schedule create s3://cultures/incoming --ref clinic
      mscflow pipelines schedule create s3://cultures/incoming --ref clinic --cron "0 3 * * *"
    """
    from pipelines.kubeflow import schedules
    from pipelines.kubeflow.connection import Connection
    from pipelines.kubeflow.place import open_place, upload
    from pipelines.kubeflow.running import page, runtime
    from pipelines.kubeflow.submission import retrain_run

    if every and cron:
        raise InputError("give --every or --cron, not both")
    trigger = schedules.cron(cron) if cron else schedules.every(every or "1h")
    assignments, ref, modality = (given.pop(key) for key in ("assignments", "ref", "modality"))
    settings = load(given, assignments, modality=modality, data={"ref": ref}, kubeflow=api_of(given))
    arguments = retrain_run(settings, watched, "", "schedule")
    called = name or f"retrain-{arguments['lineage']}"
    arguments["owner"] = f"schedule {called}"
    with Connection(settings.kubeflow) as connection:
        made = package("retrain", settings, given["compiled"], given["image_digests"])
        made.check(arguments)
        place = open_place(connection, settings)
        version = upload(connection, place, made)
        made_of = runtime(arguments, version, settings.cluster.service_account)
        kept = schedules.put(connection, place, called, trigger, made_of)
        link = page(connection, place, f"recurringrun/details/{kept.schedule['recurring_run_id']}")
    answer = {**_facts(kept.schedule), "outcome": kept.outcome, "version": version.name, "link": link}
    said = f"{answer['name']} ({answer['when']}) {kept.outcome}{', paused' if answer['paused'] else ''}\n{link}"
    say(answer, as_json, lambda: click.echo(said))


@schedule.command("list")
@api_options
@json_option
def list_(as_json: bool, **given: Any) -> None:
    """List the recurring runs of the experiment.

    \b
    Examples:
      mscflow pipelines schedule list --json
    """
    from pipelines.kubeflow import schedules
    from pipelines.kubeflow.connection import Connection
    from pipelines.kubeflow.place import open_place

    settings = load_api(given)
    with Connection(settings.kubeflow) as connection:
        found = [_facts(each) for each in schedules.all_in(connection, open_place(connection, settings))]
    if not found and not as_json:
        click.echo("no recurring run yet: 'mscflow pipelines schedule create s3://...' makes one")
        return
    columns = ["name", "id", "when", "paused"]
    say(found, as_json, lambda: table(columns, ([each[key] for key in columns] for each in found)))


def _on_one(command: Command) -> Command:
    return click.argument("name")(api_options(json_option(command)))


@schedule.command()
@_on_one
def pause(name: str, as_json: bool, **given: Any) -> None:
    """Start no more runs of NAME (or id) until it is resumed.

    \b
    Examples:
      mscflow pipelines schedule pause retrain-clinic
    """
    _change(name, "paused", given, as_json)


@schedule.command()
@_on_one
def resume(name: str, as_json: bool, **given: Any) -> None:
    """Start runs of NAME (or id) again.

    \b
    Examples:
      mscflow pipelines schedule resume retrain-clinic
    """
    _change(name, "resumed", given, as_json)


@schedule.command()
@_on_one
def delete(name: str, as_json: bool, **given: Any) -> None:
    """Delete NAME (or id), if it is there; a run that it started goes on.

    \b
    Examples:
      mscflow pipelines schedule delete retrain-clinic
    """
    _change(name, "deleted", given, as_json)


def _change(name: str, done: str, given: dict[str, Any], as_json: bool) -> None:
    from pipelines.kubeflow import schedules
    from pipelines.kubeflow.connection import Connection
    from pipelines.kubeflow.place import open_place

    change = {"paused": schedules.pause, "resumed": schedules.resume, "deleted": schedules.remove}[done]
    settings = load_api(given)
    with Connection(settings.kubeflow) as connection:
        found = schedules.named(connection, open_place(connection, settings), name)
        if not found and done != "deleted":
            raise InputError(f"no recurring run is called '{name}'; see 'mscflow pipelines schedule list'")
        for each in found:
            change(connection, each["recurring_run_id"])
    ids = [each["recurring_run_id"] for each in found]
    say(
        {"name": name, "ids": ids, done: bool(ids)},
        as_json,
        lambda: click.echo(f"{name}: {done if ids else 'not there'}"),
    )


def _facts(described: dict[str, Any]) -> dict[str, Any]:
    from pipelines.kubeflow import schedules

    return {
        "name": described["display_name"],
        "id": described["recurring_run_id"],
        "when": schedules.told(described),
        "paused": schedules.is_paused(described),
    }
