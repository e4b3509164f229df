"""`mscflow models`: the group of commands on what was trained, what serves, and the way back."""

import click

from pipelines.cli.audit import audit, evidence
from pipelines.cli.models import list_, show
from pipelines.cli.release import approve, promote, rollback


@click.group()
def models() -> None:
    """What was trained, what serves, and the way back."""


for command in (list_, show, promote, approve, rollback, audit, evidence):
    models.add_command(command)
