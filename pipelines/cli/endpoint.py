"""`mscflow serve` and `mscflow predict`: the endpoint of this machine, and a client for any."""

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.output import json_option, progress_shown, say, table

if TYPE_CHECKING:
    from components.endpoint.client import Answer
    from components.endpoint.files import Status
    from components.settings import Settings

COLUMNS = ("image", "class", "decision", "confidence", "probabilities", "model version", "note")


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


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option("--url", help="The endpoint; default: that of this home, else http://127.0.0.1:8080.")
@click.option("--model", help="Model to ask; default: that of --modality.")
@click.option("--modality", help="single_stack (default) or multi_stack.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
def predict(
    images: tuple[str, ...], url: str | None, model: str | None, modality: str | None, as_csv: bool, as_json: bool
) -> None:
    """Ask the endpoint about IMAGES: files, folders or patterns.

    Images that cannot be used are named, and the rest is answered; then the exit code is 2.

    \b
    Examples:
      mscflow predict day3.png
      mscflow predict vessel7/ 'archive/**/*.tif' --csv > answers.csv
      mscflow predict day3.png --url http://lab-server:8080 --json
    """
    from components.endpoint.client import Client
    from components.endpoint.sources import expand
    from components.events import Progress
    from components.settings import load_settings

    settings = load_settings(modality=modality)
    paths = expand(images)
    answers: list[Answer] = []
    with Client(url or _own_url(settings)) as client, progress_shown():
        progress = Progress("asking", total=len(paths), unit="images")
        contents = ((str(path), _read(path)) for path in paths)
        for answer in client.stream(model or settings.modality.model_name, contents):
            answers.append(answer)
            progress.advance()
    rows = [_row(answer) for answer in answers]
    if as_csv:
        _write_csv(rows)
    else:
        say(rows, as_json, lambda: table(COLUMNS, ([row[name] for name in COLUMNS] for row in map(_short, rows))))
    _complain(answers)


def _own_url(settings: "Settings") -> str:
    from components.deployment.local import status

    found = status(settings.home)
    default = f"http://{settings.serving.host}:{settings.serving.port}"
    return str(found.get("url", default))


def _read(path: Path) -> bytes:
    from components.errors import DataError

    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"image '{path}' cannot be read: {error.strerror}") from error


def _row(answer: "Answer") -> dict[str, Any]:
    import msgspec

    if answer.prediction is None:
        return {"image": answer.name, "error": str(answer.error)}
    return {"image": answer.name, **msgspec.to_builtins(answer.prediction)}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """One answer as a row for people."""
    if "error" in row:
        return dict.fromkeys(COLUMNS) | {"image": row["image"], "note": row["error"]}
    return {
        "image": row["image"],
        "class": f"{row['class']} {row['name'].replace('_', ' ')}",
        "decision": row["decision"] or "abstains",
        "confidence": f"{row['confidence']:.2f}",
        "probabilities": " ".join(f"{value:.2f}" for value in row["probabilities"].values()),
        "model version": row["model_version"],
        "note": row["reason"],
    }


def _write_csv(rows: list[dict[str, Any]]) -> None:
    flat = [
        {key: value for key, value in row.items() if key != "probabilities"}
        | {f"probability_{name}": value for name, value in row.get("probabilities", {}).items()}
        for row in rows
    ]
    columns = list(dict.fromkeys(key for row in flat for key in row))
    writer = csv.DictWriter(sys.stdout, columns)
    writer.writeheader()
    writer.writerows(flat)


def _complain(answers: "list[Answer]") -> None:
    from components.errors import DataError

    failed = [answer for answer in answers if answer.error is not None]
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise DataError(f"{len(failed)} of {len(answers)} images have no answer: {failed[0].error}{more}")
