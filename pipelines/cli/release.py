"""`mscflow models promote, approve, rollback`: who serves, and the way back."""

from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.models import model_argument
from pipelines.cli.output import json_option, say

if TYPE_CHECKING:
    from components.rollout import Rolling
    from components.settings import Settings


def _settings() -> "Settings":
    from components.settings import load_settings

    return load_settings()


by_option = click.option("--by", metavar="NAME", help="Who decides; default MSCFLOW_ACTOR, else the account.")


@click.command()
@model_argument
@click.argument("version", default="challenger")
@click.option("--force", is_flag=True, help="Promote although the gate refuses; needs --reason.")
@click.option("--reason", help="Why it is promoted against the gate; recorded.")
@by_option
@json_option
def promote(name: str, version: str, force: bool, reason: str | None, by: str | None, as_json: bool) -> None:
    """Judge VERSION (a number or an alias) again; if it passes, make it the champion and serve it.

    Under the policy 'approval' (gate.policy) it then waits for 'mscflow models approve'.

    \b
    Examples:
      mscflow models promote confluence-single-stack 3
      mscflow models promote confluence-single-stack 3 --force --reason "validated by hand, report 12"
    """
    from components.errors import GateRefused, InputError
    from components.registry import steps
    from components.registry.verdicts import Override

    if force and not reason:
        raise InputError("--force needs --reason 'why', which is recorded with the version")
    settings = _settings()
    override = Override(reason=reason, by=_person(by)) if force and reason else None
    done = steps.promote(
        name, version, settings.store_uri, None, settings.mlflow_uri, settings.gate, settings.home, override
    )
    served = _serve_champion(settings, name) if done["passed"] else None
    pack = _write_pack(settings, name) if done["passed"] else None
    answer = {**done, "endpoint": served, "evidence": pack}
    say(answer, as_json, lambda: click.echo(_promoted(answer, name)))
    if not done["passed"] and not done["awaits_approval"]:
        raise GateRefused("the gate refused the model: " + " ".join(done["reasons"]))


def _promoted(answer: dict[str, Any], name: str) -> str:
    if not answer["passed"]:
        waits = "".join(f"\n{reason}" for reason in answer["reasons"]) if answer["awaits_approval"] else ""
        return f"{name}: the champion stays version {answer['champion'] or 'none'}{waits}"
    note = f"{name}: the champion is version {answer['champion']}{_serving_note(answer['endpoint'])}"
    return f"{note}\nevidence  {answer['evidence']}"


@click.command()
@model_argument
@click.argument("version", default="challenger")
@click.option("--reason", required=True, help="Why; recorded with the version and in the audit log.")
@by_option
@json_option
def approve(name: str, version: str, reason: str, by: str | None, as_json: bool) -> None:
    """Release VERSION (a number or an alias), which passed the gate and waits for a person, and serve it.

    What is released is what was judged: the same bytes, held against the same champion. Exit code 3: it is not.

    \b
    Examples:
      mscflow models approve confluence-single-stack 3 --reason "evidence read, report 12"
      mscflow models approve --reason "agreed in the weekly review" --by operator-1
    """
    from components.registry import steps

    settings = _settings()
    where = (settings.store_uri, settings.mlflow_uri, settings.home)
    champion = steps.approve(name, version, *where, reason=reason, by=_person(by))
    served = _serve_champion(settings, name)
    pack = _write_pack(settings, name)
    note = f"{name}: the champion is version {champion['version']}{_serving_note(served)}\nevidence  {pack}"
    say({**champion, "endpoint": served, "evidence": pack}, as_json, lambda: click.echo(note))


@click.command()
@model_argument
@click.option("--reason", default="rolled back by hand", show_default=True, help="Why; recorded with the versions.")
@by_option
@json_option
def rollback(name: str, reason: str, by: str | None, as_json: bool) -> None:
    """Make the previous champion of NAME the champion again, and serve it.

    A rollback that was cut off before the endpoint followed is finished.

    \b
    Example:
      mscflow models rollback confluence-single-stack --reason "misses overgrowth on lot 17"
    """
    from components.deployment.champion import roll_back

    settings = _settings()
    where = (settings.mlflow_uri, settings.home, settings.serving, settings.store_uri, _rolling(settings))
    done = roll_back(name, *where, reason=reason, by=_person(by))
    note = f"{name}: the champion is version {done['version']} again{_serving_note(done['endpoint'])}"
    say(done, as_json, lambda: click.echo(note))


def _serving_note(served: dict[str, Any] | None) -> str:
    if served:
        return f", and {served['url']} serves it"
    return "; no endpoint runs ('mscflow serve' starts one)"


def _serve_champion(settings: "Settings", name: str) -> dict[str, Any] | None:
    from components.deployment.champion import serve_champion

    where = (settings.mlflow_uri, settings.home, settings.serving, settings.store_uri, _rolling(settings))
    return serve_champion(name, *where)


def _rolling(settings: "Settings") -> "Rolling":
    from components.rollout import Rolling

    return Rolling.of(settings.rollout, settings.cluster)


def _write_pack(settings: "Settings", name: str) -> str:
    """Write what the release rests on into the home; give the page's path."""
    from components.registry import steps

    return steps.write_evidence_pack(name, "champion", settings, settings.home / "evidence")["html"]


def _person(given: str | None) -> str:
    from components.audit.entry import this_actor

    return given or this_actor()
