"""`mscflow serve`: the endpoint of this machine."""

from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.output import json_option, say, table

if TYPE_CHECKING:
    from components.endpoint.files import Status
    from components.settings import Settings


@click.command()
@click.option("--host", help="Address to listen on; default 127.0.0.1.")
@click.option("--port", type=int, help="Port of REST v1 and v2; default 8080.")
@click.option("--grpc-port", type=int, help="Port of gRPC; default 8081.")
@click.option("--stop", is_flag=True, help="Stop the endpoint that a run left serving.")
@click.option("--status", "ask_status", is_flag=True, help="Tell what serves, and end.")
@json_option
def serve(stop: bool, ask_status: bool, as_json: bool, **given: Any) -> None:
    """Serve the champions of the registry until Ctrl-C.

    \b
    Examples:
      mscflow serve --port 8085
      mscflow serve --status
      mscflow serve --stop
    """
    from components.deployment import local
    from components.settings import load_settings

    settings = load_settings(serving=given)
    if stop:
        stopped = local.stop(settings.home)
        note = "stopped the endpoint" if stopped else "no endpoint of this home runs"
        say({"stopped": stopped}, as_json, lambda: click.echo(note))
    elif ask_status:
        status = local.status(settings.home)
        say(status, as_json, lambda: _show_status(status))
    else:
        _serve(settings)


def _serve(settings: "Settings") -> None:
    from components.deployment import local, steps
    from components.errors import DeploymentError

    def announce(status: "Status") -> None:
        click.echo(f"listening on {local.addresses(status)['url']}, gRPC on port {status.grpc_port}; Ctrl-C ends it")

    local.check_ports(settings.serving, settings.home)
    champions = steps.champions(settings.mlflow_uri, settings.home)
    if code := local.serve_foreground(settings.home, settings.serving, champions, announce):
        raise DeploymentError(f"the endpoint ended with exit code {code}; its log is above")


def _show_status(status: dict[str, Any]) -> None:
    if not status["running"]:
        click.echo("no endpoint of this home runs; 'mscflow serve' starts one")
        return
    if "url" not in status:
        click.echo("the endpoint is starting")
        return
    state = "ready" if status["ready"] else "not ready"
    click.echo(f"{status['url']} (gRPC {status['grpc_url']}), pid {status['pid']}, {state}")
    rows = ([model["name"], model["state"], model["version"], model["reason"]] for model in status["models"])
    table(["model", "state", "version", "reason"], rows)
