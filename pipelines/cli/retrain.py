"""`mscflow watch`, `mscflow retrain` and `mscflow batches`: new images, from their arrival to what came of them."""

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from components.errors import GateRefused, InputError
from pipelines.cli.output import Command, json_option, say, table
from pipelines.cli.run import load, settings_options

if TYPE_CHECKING:
    from components.settings import Settings
    from pipelines.local import PipelineRun
    from pipelines.watch import Work

_REFUSED = ("refused", "stopped")


def _batch_options(command: Command) -> Command:
    options = (
        click.option("--ref", help="Lineage that batches are added to; default: that of the champion."),
        click.option("--task", help="confluence (default) or abnormal_cells."),
        click.option("--modality", help="single_stack (default) or multi_stack."),
    )
    for option in reversed(options):
        command = option(command)
    return settings_options(command)


@click.command()
@click.argument("uri")
@click.option("--once", is_flag=True, help="Work on what is due now, then end; for a scheduler such as cron.")
@click.option("--interval", type=float, help="Seconds between two looks; default 60.")
@_batch_options
@json_option
def watch(uri: str, once: bool, interval: float | None, as_json: bool, **given: Any) -> None:
    """Look for batches below URI (a folder or s3:// prefix) and retrain on each, once.

    A batch is a sub-folder that holds an empty file _COMPLETE, or batch.json and what it promises. Any number of
    watchers may look at one place. With --json: one line for each thing that happens.

    \b
    Examples:
      mscflow watch incoming/
      mscflow watch s3://cultures/incoming --interval 300 --json
      mscflow watch incoming/ --once --ref clinic
    """
    from pipelines.watch import Watcher, Work, lineage_of, new_owner

    settings = _load(given, watch={"interval": interval})
    _check(settings, uri)
    work = Work(settings, lineage_of(settings), uri, "", new_owner())
    if not as_json:
        often = "once" if once else f"every {settings.watch.interval:g} s; Ctrl-C ends it"
        click.echo(f"looking for batches in {uri} for lineage {work.lineage} ({often})", err=True)
    watcher = Watcher(work, _tell_machines if as_json else _tell_people, _shown)
    if once:
        watcher.once()
    else:
        watcher.forever()


@click.command()
@click.option("--batch", "uri", required=True, help="Folder or s3://bucket/prefix of one batch; it needs no marker.")
@click.option("--again", is_flag=True, help="Work on it although it was worked on before.")
@_batch_options
@json_option
def retrain(uri: str, again: bool, as_json: bool, **given: Any) -> None:
    """Take one batch of images through screening, training and the gate; a better model is released and served.

    A batch that was worked on before is told, not worked on again. Exit code 3: the screening stopped the batch, or
    the gate refused the model, and what served before still serves.

    \b
    Examples:
      mscflow retrain --batch incoming/2026-11-23
      mscflow retrain --batch s3://cultures/incoming/2026-11-23 --again --json
    """
    from pipelines.watch import Work, lineage_of, new_owner, reopen

    settings = _load(given)
    _check(settings, uri)
    work = Work(settings, lineage_of(settings), "", uri, new_owner())
    if again:
        reopen(work)
    answer = _retrained(work)
    say(answer, as_json, lambda: _show(answer))
    if answer["before"]:
        return
    if answer["ended"] in _REFUSED:
        what = "gate refused the model" if answer["ended"] == "refused" else "screening stopped the batch"
        raise GateRefused(f"the {what}: " + " ".join(answer["reasons"]))


@click.command()
@click.option("--ref", help="Lineage; default: all.")
@json_option
def batches(ref: str | None, as_json: bool) -> None:
    """List the batches that were worked on, and what came of them.

    \b
    Examples:
      mscflow batches
      mscflow batches --ref clinic --json
    """
    from components.batches.overview import overview
    from components.settings import load_settings

    found = overview(load_settings().store_uri, ref)
    if not found and not as_json:
        click.echo("no batch yet: 'mscflow watch FOLDER' or 'mscflow retrain --batch FOLDER' works on one")
        return
    columns = ["lineage", "batch", "id", "images", "attempts", "state", "what came of it", "since (UTC)"]
    say(found, as_json, lambda: table(columns, map(_row, found)))


def _row(each: dict[str, Any]) -> tuple[object, ...]:
    came = ": ".join(filter(None, [each["ended"], " ".join(each["reasons"])[:80]]))
    facts = (each["lineage"], each["name"], each["id"][:12], each["images"], each["attempts"], each["state"])
    return *facts, came, each["since"][:19]


def _load(given: dict[str, Any], **more: Any) -> "Settings":
    assignments, ref, modality = (given.pop(name) for name in ("assignments", "ref", "modality"))
    return load(given, assignments, modality=modality, data={"ref": ref}, **more)


def _check(settings: "Settings", uri: str) -> None:
    from pipelines.preflight import check_run

    check_run(settings, uri)


def _shown(work: "Work") -> "PipelineRun":
    """Retrain, with a line for each step on standard error."""
    from pipelines.display import RunDisplay
    from pipelines.steps import RETRAIN_STEPS
    from pipelines.watch import retrain as work_on

    with RunDisplay(RETRAIN_STEPS) as display:
        done = work_on(work, display.observe)
        for step in sorted(done.cached, key=RETRAIN_STEPS.index):
            display.cached(step)
    return done


def _retrained(work: "Work") -> dict[str, Any]:
    """Work on the batch, once whoever works on the lineage is done; give what came of it, now or before."""
    from pipelines.watch import before, look

    told = ""
    while True:
        found = look(work)
        if found["found"]:
            done = _shown(work)
            if "conclude" in done.results:
                return _answer(work, done)
        elif (known := before(work)) is not None:
            if known["ended"] == "failed":
                reasons = " ".join(known["reasons"])
                raise InputError(f"batch {known['batch']} failed before ({reasons}); mend it, then add --again")
            return known
        elif told != found["why"]:
            told = found["why"]
            click.echo(f"waiting: {told}", err=True)
        time.sleep(1)


def _answer(work: "Work", done: "PipelineRun") -> dict[str, Any]:
    results = done.results
    promoted = results.get("promote", {})
    came = {key: value for key, value in results["conclude"].items() if key != "steps"}
    return {
        "batch": results["poll"]["batch"],
        "id": results["poll"]["id"],
        "lineage": work.lineage,
        "before": False,
        **came,
        "screening": results.get("screen"),
        "metrics": results.get("evaluate"),
        "rules": promoted.get("rules"),
        "report": promoted.get("report"),
        "seconds": done.seconds,
        "cached": done.cached,
        "run": str(done.folder),
    }


def _show(answer: dict[str, Any]) -> None:
    when = " before; --again works on it again" if answer["before"] else ""
    click.echo(f"batch     {answer['batch']} of lineage {answer['lineage']}: {answer['ended']}{when}")
    for reason in answer["reasons"]:
        click.echo(f"          {reason}")
    if "version" in answer:
        click.echo(f"model     {answer['model']} version {answer['version']}")
    if "url" in answer:
        click.echo(f"endpoint  {answer['url']}")
    screening = answer.get("screening") or {}
    for name, path in (("screening", screening.get("page")), ("review", screening.get("review"))):
        if path:
            click.echo(f"{name:<9} {path}")
    if answer.get("report"):
        click.echo(f"report    {answer['report']}")


def _tell_machines(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event, default=str) + "\n")
    sys.stdout.flush()


def _tell_people(event: dict[str, Any]) -> None:
    match event["event"]:
        case "waiting":
            for name, reason in event["batches"].items():
                _say(f"batch {name} waits: {reason}")
        case "idle":
            _say(event["why"])
        case "begun":
            _say(f"batch {event['batch']}")
        case "ended":
            reasons = "".join(f"; {reason}" for reason in event["reasons"])
            model = f", {event['model']} version {event['version']}" if "version" in event else ""
            _say(f"batch {event['batch']}: {event['ended']}{model}{reasons}")
        case "failed":
            _say(f"batch {event['batch']} failed: {event['error']}")
        case "trouble":
            _say(f"{event['error']}; looking again")


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)
