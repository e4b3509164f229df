"""`mscflow serve`: the endpoint of this machine."""

import time
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.output import json_option, say, table

if TYPE_CHECKING:
    from components.endpoint.files import Status
    from components.settings import Settings

POLL_SECONDS = 0.1


@click.command()
@click.option("--host", help="Address to listen on; default 127.0.0.1.")
@click.option("--port", type=int, help="Port of REST v1 and v2; default 8080.")
@click.option("--grpc-port", type=int, help="Port of gRPC; default 8081.")
@click.option("--stop", is_flag=True, help="Stop the endpoint that a run left serving.")
@click.option("--status", "ask_status", is_flag=True, help="Tell what serves, and end.")
@json_option
def serve(stop: bool, ask_status: bool, as_json: bool, **given: Any) -> None:
    """Serve the champions of the registry until Ctrl-C.

    Limits, token and TLS are settings of the section [serving]: see 'mscflow settings' and docs/serving.

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
        if "models" in status:
            status |= {"culture": _together(status["models"]), "missing": _missing(status["models"])}
        say(status, as_json, lambda: _show_status(status))
    else:
        _serve(settings)


def _serve(settings: "Settings") -> None:
    from components.deployment import local, steps
    from components.errors import DeploymentError

    def announce(status: "Status") -> None:
        click.echo(f"listening on {local.addresses(status)['url']}, gRPC on port {status.grpc_port}; Ctrl-C ends it")
        try:
            _show_status(_settled(settings))
        except KeyboardInterrupt:
            return  # it has reached the server too, which ends by itself

    local.check_ports(settings.serving, settings.home)
    champions = steps.champions(settings.mlflow_uri, settings.home)
    if code := local.serve_foreground(settings.home, settings.serving, champions, announce):
        raise DeploymentError(f"the endpoint ended with exit code {code}; its log is above")


def _settled(settings: "Settings") -> dict[str, Any]:
    """Wait until the endpoint has tried all of its models; tell how it does."""
    from components.deployment import local

    deadline = time.monotonic() + settings.serving.start_timeout
    while True:
        status = local.status(settings.home)
        tried = [model["state"] != "loading" for model in status.get("models", [])]
        if not status["running"] or (tried and all(tried)) or time.monotonic() > deadline:
            return status
        time.sleep(POLL_SECONDS)


def _show_status(status: dict[str, Any]) -> None:
    if not status["running"]:
        click.echo("no endpoint of this home runs; 'mscflow serve' starts one")
        return
    if "url" not in status:
        click.echo("the endpoint is starting")
        return
    state = "ready" if status["ready"] else "not ready"
    click.echo(f"{status['url']} (gRPC {status['grpc_url']}), pid {status['pid']}, {state}")
    rows = [[model["name"], model["state"], model["version"], model["reason"]] for model in status["models"]]
    together = _together(status["models"])
    if together:
        rows.append(["culture", "ready", None, "; ".join(f"{name}: {what}" for name, what in together.items())])
    table(["model", "state", "version", "note"], rows)
    for name, way in _missing(status["models"]).items():
        click.echo(f"not deployed: {name}; '{way}' makes and deploys one")
    click.echo(f"try: mscflow predict IMAGE --url {status['url']}, or curl {status['url']}/v1/models")


def _together(models: list[dict[str, Any]]) -> dict[str, str]:
    """What ``culture`` answers for images of each modality."""
    from components.culture import ABNORMAL_MODEL, Modality

    answering = {model["name"] for model in models if model["version"] is not None}
    looks = {Modality.SINGLE_STACK} if ABNORMAL_MODEL in answering else set()
    return {
        modality.value: "confluence and abnormal cells" if modality in looks else "confluence"
        for modality in Modality
        if modality.model_name in answering
    }


def _missing(models: list[dict[str, Any]]) -> dict[str, str]:
    """The models that nobody has deployed, and the command that would."""
    from components.culture import ABNORMAL_MODEL, Modality, Task

    ways = {modality.model_name: f"mscflow run --modality {modality} --data FOLDER" for modality in Modality}
    ways[ABNORMAL_MODEL] = f"mscflow run --task {Task.ABNORMAL_CELLS} --data FOLDER"
    deployed = {model["name"] for model in models}
    return {name: way for name, way in ways.items() if name not in deployed}
