"""Recurring runs on Kubeflow Pipelines: one by each name, however often it is asked for."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from components.errors import InputError
from pipelines.kubeflow.connection import Connection, Json
from pipelines.kubeflow.failures import NotThere
from pipelines.kubeflow.place import Place

PATH = "/recurringruns"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Kept(NamedTuple):
    """A recurring run that is as it was asked for.

    Attributes:
        schedule: As the API describes it.
        outcome: ``created``, ``replaced`` or ``unchanged``.
    """

    schedule: Json
    outcome: str


def every(text: str) -> Json:
    """Read an interval such as 15m.

    Raises:
        InputError: if it is none.
    """
    found = re.fullmatch(r"([1-9]\d*)([smhd])", text.strip())
    if not found:
        raise InputError(f"--every '{text}' is no interval; give a number and s, m, h or d, such as 15m")
    return {"periodic_schedule": {"interval_second": str(int(found[1]) * _UNITS[found[2]])}}


def cron(text: str) -> Json:
    """Read a cron expression; KFP's begin with the second, and the usual five fields mean second 0.

    Raises:
        InputError: if it has not five or six fields.
    """
    fields = text.split()
    if len(fields) not in {5, 6} or not all(re.fullmatch(r"[\w*/,?#-]+", each) for each in fields):
        raise InputError(f"--cron '{text}' is no cron expression; give five fields, such as '0 3 * * *' for 3:00 UTC")
    return {"cron_schedule": {"cron": " ".join(["0"] * (6 - len(fields)) + fields)}}


def put(connection: Connection, place: Place, name: str, trigger: Json, made_of: Json) -> Kept:
    """See to it that exactly one recurring run has a name, and that it is as asked for.

    The API cannot change one: a new one is made before others of the name are deleted, so that an end in between
    leaves one too many, which the next call deletes, and never none.

    Args:
        connection: To the API.
        place: That its runs belong to.
        name: Of the recurring run.
        trigger: See ``every`` and ``cron``.
        made_of: See ``running.runtime``.

    Raises:
        InputError: if the API refuses, or does not answer.
    """
    wanted = {"display_name": name, "experiment_id": place.experiment_id, "trigger": trigger, **made_of}

    def find() -> Json | None:
        return next((each for each in named(connection, place, name) if _same(each, wanted)), None)

    there = named(connection, place, name)
    mode = "DISABLE" if there and all(map(is_paused, there)) else "ENABLE"
    # Runs that were missed while the cluster was down would find nothing that the next does not.
    body = {**wanted, "max_concurrency": "1", "no_catchup": True, "mode": mode}
    kept, made = connection.make(find, PATH, body)
    others = [each for each in there if each["recurring_run_id"] != kept["recurring_run_id"]]
    for other in others:
        remove(connection, other["recurring_run_id"])
    return Kept(kept, ("replaced" if there else "created") if made else "unchanged")


def all_in(connection: Connection, place: Place) -> Iterator[Json]:
    """Give the recurring runs of an experiment; raises what ``put`` does."""
    return connection.pages(PATH, "recurringRuns", experiment_id=place.experiment_id)


def named(connection: Connection, place: Place, name: str) -> list[Json]:
    """Give those of a name, or of an id."""
    return [each for each in all_in(connection, place) if name in (each["display_name"], each["recurring_run_id"])]


def pause(connection: Connection, identity: str) -> None:
    """Let a recurring run start nothing until ``resume``; raises what ``put`` does."""
    connection.tell("POST", f"{PATH}/{identity}:disable")


def resume(connection: Connection, identity: str) -> None:
    """Let a recurring run start runs again; raises what ``put`` does."""
    connection.tell("POST", f"{PATH}/{identity}:enable")


def remove(connection: Connection, identity: str) -> None:
    """Delete a recurring run, unless it is gone; runs that it started go on. Raises what ``put`` does."""
    try:
        connection.tell("DELETE", f"{PATH}/{identity}")
    except NotThere:
        return


def is_paused(schedule: Json) -> bool:
    """Whether a recurring run starts nothing now."""
    return schedule.get("status") == "DISABLED" or schedule.get("mode") == "DISABLE"


def told(schedule: Json) -> str:
    """Say when a recurring run starts a run."""
    expression, interval = _when(schedule)
    if expression:
        return f"cron {expression} (UTC)"
    seconds = int(interval or 0)
    unit = max((unit for unit, length in _UNITS.items() if seconds % length == 0), key=_UNITS.__getitem__)
    return f"every {seconds // _UNITS[unit]}{unit}"


def _same(there: Json, wanted: Json) -> bool:
    """Whether a recurring run is what is wanted; the API adds fields of its own to what it was given."""
    alike = all(there.get(key) == wanted[key] for key in ("pipeline_version_reference", "service_account"))
    given = (there.get("runtime_config") or {}).get("parameters")
    return alike and given == wanted["runtime_config"]["parameters"] and _when(there) == _when(wanted)


def _when(schedule: Json) -> tuple[str | None, str | None]:
    trigger: Json = schedule.get("trigger") or {}
    interval = (trigger.get("periodic_schedule") or {}).get("interval_second")
    return (trigger.get("cron_schedule") or {}).get("cron"), interval
