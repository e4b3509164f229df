"""`mscflow models audit, evidence`: what was done, whether its record is whole, and what a release rests on."""

from pathlib import Path
from typing import Any

import click

from pipelines.cli.models import model_argument
from pipelines.cli.output import json_option, say, table


@click.command()
@click.argument("about", required=False)
@click.option("--last", type=click.IntRange(min=1), help="Show this many of the newest entries; default: all.")
@click.option("--expect", metavar="DIGEST", help="Digest of an entry that was noted elsewhere and must be in the log.")
@json_option
def audit(about: str | None, last: int | None, expect: str | None, as_json: bool) -> None:
    """Print the audit log and verify it: every altered, removed or reordered entry is named.

    ABOUT keeps the entries whose subject begins so, such as a model's name. All are verified in any case, held
    against the digests that the registry noted. Exit code 1: the log is not what was entered.

    \b
    Examples:
      mscflow models audit
      mscflow models audit confluence-single-stack --last 20
      mscflow models audit --json | jq .faults
    """
    from components.errors import IntegrityError
    from components.registry.auditing import read_audit
    from components.settings import load_settings

    settings = load_settings()
    found = read_audit(settings.store_uri, settings.mlflow_uri, about or "", expect)
    shown = found["entries"][-last:] if last else found["entries"]
    say({**found, "entries": shown}, as_json, lambda: _show_audit(found, shown))
    if not found["sound"]:
        more = f" (and {len(found['faults']) - 1} more)" if len(found["faults"]) > 1 else ""
        raise IntegrityError(f"the audit log is not what was entered: {found['faults'][0]['note']}{more}")


def _show_audit(found: dict[str, Any], shown: list[dict[str, Any]]) -> None:
    parts = ("action", "subject", "actor")
    rows = [
        (each["sequence"], each["time"][:19].replace("T", " "), *(each[part] for part in parts), each["reason"][:80])
        for each in shown
    ]
    table(["", "time (UTC)", "action", "subject", "actor", "reason"], rows)
    for fault in found["faults"]:
        click.echo(f"✗ {fault['note']}")
    if found["doubtful"]:
        places = ", ".join(map(str, found["doubtful"]))
        click.echo(f"? only the entries named above vouch for: {places}")
    for note in found["unrecorded"]:
        click.echo(f"! {note}; the next operation on the model enters it")
    if found["sound"]:
        fresh = f", all but the newest {found['fresh']}" if found["fresh"] else ""
        click.echo(
            f"✓ {found['count']} entries form one chain; {found['anchors']} digests in the registry vouch for it{fresh}"
        )
    click.echo(f"newest digest: {found['head'] or 'none'}")


@click.command()
@model_argument
@click.argument("version", default="champion")
@click.option("--output", type=click.Path(path_type=Path), help="Folder; default: evidence/ in the home.")
@json_option
def evidence(name: str, version: str, output: Path | None, as_json: bool) -> None:
    """Write all that the release of VERSION (a number or an alias) rests on, as one HTML page and as JSON.

    \b
    Examples:
      mscflow models evidence
      mscflow models evidence confluence-single-stack 3 --output dossier/
    """
    from components.registry import steps
    from components.settings import load_settings

    settings = load_settings()
    folder = output or settings.home / "evidence"
    done = steps.write_evidence_pack(name, version, settings, folder)
    say(done, as_json, lambda: click.echo(f"wrote {done['html']} and {done['json']}"))
