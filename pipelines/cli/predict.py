"""`mscflow predict`: asks any endpoint about images."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.output import json_option, progress_shown

if TYPE_CHECKING:
    from components.endpoint.client import Client
    from components.settings import Settings
    from pipelines.cli.answers import Asked

FILE = click.Path(path_type=Path)
# Seconds that a busy endpoint is waited for: a person who asks about a folder would rather wait than begin anew.
PATIENCE = 120.0


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option("--url", help="The endpoint; default: that of this home, else http://127.0.0.1:8080.")
@click.option("--modality", help="How the vessels are built: single_stack (default) or multi_stack.")
@click.option("--model", help="Ask one model alone, such as abnormal-cells; default: culture, which asks all.")
@click.option("--overlays", metavar="FOLDER", type=FILE, help="Write a PNG of each image with what was said of it.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
@click.option("--at-once", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests in flight.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds an answer.")
@click.option("--token-file", type=FILE, help="File with the endpoint's token; default: MSCFLOW_TOKEN itself.")
@click.option("--ca", type=FILE, help="PEM file of who signed the endpoint's certificate; default: MSCFLOW_CA.")
@click.option("--certificate", type=FILE, help="PEM file of your certificate; default: MSCFLOW_CERTIFICATE.")
@click.option("--key", type=FILE, help="PEM file of its key; default: MSCFLOW_KEY.")
def predict(
    images: tuple[str, ...],
    url: str | None,
    modality: str | None,
    model: str | None,
    overlays: Path | None,
    as_csv: bool,
    as_json: bool,
    token_file: Path | None,
    **connection: Any,
) -> None:
    """Ask the endpoint about IMAGES: files, folders or patterns.

    Images that cannot be used are named, and the rest is answered; then the exit code is 2.

    \b
    Examples:
      mscflow predict day3.png
      mscflow predict vessel7/ 'archive/**/*.tif' --csv > answers.csv
      mscflow predict vessel7/ --overlays looked-at
      mscflow predict flask.jpg --modality multi_stack
      mscflow predict day3.png --model abnormal-cells --json
      mscflow predict day3.png --url https://lab-server:8080 --ca lab-ca.pem --token-file token
    """
    from components.endpoint.access import read_token
    from components.endpoint.client import Client
    from components.endpoint.sources import expand
    from components.settings import load_settings
    from pipelines.cli.answers import complain, show

    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other; give one of them")
    settings = load_settings(modality=modality)
    paths = expand(images)
    token = read_token(token_file) if token_file else None
    asked: dict[Path, Asked] = {}
    with Client(url or _own_url(settings), patience=PATIENCE, token=token, **connection) as client:
        chosen = model or _default_model(client, settings)
        try:
            _ask(client, chosen, settings, paths, overlays, asked)
        except KeyboardInterrupt as stop:
            told = "what was answered is printed" if asked else "nothing was answered"
            raise click.Abort(f"interrupted after {len(asked)} of {len(paths)} images; {told}") from stop
        finally:
            # In the order of the images, though an interruption may leave gaps.
            done = [asked[path] for path in paths if path in asked]
            if done:
                show(done, as_json=as_json, as_csv=as_csv)
    complain(done)


def _ask(
    client: "Client",
    model: str,
    settings: "Settings",
    paths: list[Path],
    overlays: Path | None,
    asked: "dict[Path, Asked]",
) -> None:
    """Ask about all images; what came back is in ``asked`` as soon as it is known."""
    from components.culture import CULTURE_MODEL
    from components.endpoint.gallery import Gallery
    from components.endpoint.inflight import in_order
    from components.errors import ImageError
    from components.events import Progress
    from pipelines.cli.answers import Asked, printable

    modality = settings.modality if model == CULTURE_MODEL else None

    def ask(path: Path) -> None:
        answer = client.answer(model, (printable(path), path), modality)
        overlay = problem = None
        if gallery and answer.prediction:
            try:
                overlay = gallery.add(path, answer.prediction)
            except ImageError as error:
                problem = error
        asked[path] = Asked(answer, overlay, problem)

    with Gallery(overlays, paths) if overlays else nullcontext() as gallery, progress_shown():
        progress = Progress("asking", total=len(paths), unit="images")
        for _ in in_order(ask, paths, client.at_once):
            progress.advance()


def _default_model(client: "Client", settings: "Settings") -> str:
    """Give ``culture`` where the endpoint has it, else the confluence model of the modality."""
    from components.culture import CULTURE_MODEL, Modality
    from components.errors import EndpointUnavailable, InputError

    served = client.models()
    if settings.modality.model_name in served and CULTURE_MODEL not in served:
        client.describe(settings.modality.model_name)  # waits until it is loaded, and culture with it
        served = client.models()
    if not served:
        raise EndpointUnavailable(
            f"{client.url} serves no model: {client.why_not_ready() or 'none was deployed to it'}"
        )
    if settings.modality.model_name in served:
        return CULTURE_MODEL if CULTURE_MODEL in served else settings.modality.model_name
    others = [f"--modality {each}" for each in Modality if each.model_name in served]
    advice = " or ".join(others or [f"--model {each}" for each in served])
    raise InputError(f"{client.url} serves no model for --modality {settings.modality}; give {advice}")


def _own_url(settings: "Settings") -> str:
    from components.deployment.local import status

    found = status(settings.home)
    default = f"http://{settings.serving.host}:{settings.serving.port}"
    return str(found.get("url", default))
