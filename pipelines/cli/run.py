"""`mscflow run` and `mscflow demo`: the whole path, from images to a served model."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.errors import GateRefused, InputError
from pipelines.cli.detection import show_detector
from pipelines.cli.output import Command, json_option, progress_shown, say, table

if TYPE_CHECKING:
    from components.settings import Settings
    from pipelines.local import PipelineRun

DEMO_IMAGES = 240
DEMO_PORTS = {"port": 8090, "grpc_port": 8091}


def settings_options(command: Command) -> Command:
    """Add what every command that trains can be told."""
    options = (
        click.option("--preset", help="How much work: quick (default), standard or paper."),
        click.option(
            "--backbone",
            help="Network: cover_net (default of quick), alexnet, efficientnet_lite0, inception_v3, mobilenet_v3, "
            "resnet50, shufflenet_v2 or vit.",
        ),
        click.option("--weights", help="'auto', 'none', 'torchvision' or a local weights file."),
        click.option("--port", type=int, help="Port of the endpoint's REST protocols; default 8080."),
        click.option("--grpc-port", type=int, help="Port of the endpoint's gRPC; default 8081."),
        click.option(
            "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting, e.g. training.epochs=5."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def parse_assignments(assignments: tuple[str, ...]) -> dict[str, Any]:
    """Turn ``('training.epochs=5',)`` into nested settings.

    Raises:
        InputError: if one has no ``=``.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        name, sign, value = assignment.partition("=")
        if not sign:
            raise InputError(f"--set '{assignment}' is not NAME=VALUE, such as training.epochs=5")
        *sections, last = name.strip().split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return tree


def merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    """Lay one tree of settings over another."""
    merged = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def load(given: dict[str, Any], assignments: tuple[str, ...], **more: Any) -> "Settings":
    """Build the settings from what ``settings_options`` took, and further ones by name."""
    from components.settings import load_settings

    overrides: dict[str, Any] = {
        "preset": given["preset"],
        "task": given.get("task"),
        "training": {"backbone": given["backbone"], "weights": given["weights"]},
        "serving": {"port": given["port"], "grpc_port": given["grpc_port"]},
    }
    named = {key: value for key, value in more.items() if value is not None}
    return load_settings(**merge(merge(overrides, named), parse_assignments(assignments)))


def backend_option(more: str) -> Callable[[Command], Command]:
    """Add where the work is done; ``more`` ends its help."""
    return click.option(
        "--backend",
        type=click.Choice(["local", "kubeflow"]),
        default="local",
        show_default=True,
        help=f"This machine, or the Kubeflow Pipelines at kubeflow.url{more}.",
    )


@click.command()
@click.option("--data", "source", required=True, help="Folder or s3://bucket/prefix of images.")
@click.option("--task", help="confluence (default) or abnormal_cells.")
@click.option(
    "--positive", multiple=True, metavar="LABEL", help="Label of the boxes that are abnormal cells; default: Flatten."
)
@click.option("--modality", help="single_stack (default) or multi_stack.")
@click.option("--ref", help="Lineage that the images belong to; default: the folder's name.")
@backend_option(", as `mscflow pipelines submit` does")
@settings_options
@json_option
def run(
    source: str,
    positive: tuple[str, ...],
    modality: str | None,
    ref: str | None,
    backend: str,
    assignments: tuple[str, ...],
    as_json: bool,
    **given: Any,
) -> None:
    """Take images to a released, served model: snapshot, validate, split, search, train, evaluate,
    register, promote, deploy, verify.

    What a former run finished is taken from the cache. Exit code 3: the gate refused the model, and
    what served before still serves.

    \b
    Examples:
      mscflow run --data photos/ --modality single_stack --preset quick
      mscflow run --data s3://cultures/2026 --backbone resnet50 --set training.epochs=50
      mscflow run --data photos/ --json | jq .metrics
      mscflow run --task abnormal_cells --data annotated/ --positive "Dead Cell"
      mscflow run --backend kubeflow --data s3://cultures/2026 --set kubeflow.url=https://kubeflow.example.org/pipeline
    """
    detection = {"positive": positive or None}
    settings = load(given, assignments, modality=modality, data={"ref": ref}, detection=detection)
    if backend == "kubeflow":
        from pipelines.cli.submit import run_there
        from pipelines.kubeflow.submission import train_run

        run_there("train", settings, train_run(settings, source), as_json)
    else:
        _run(settings, source, as_json)


@click.command()
@click.option("--images", default=DEMO_IMAGES, show_default=True, help="Images to simulate.")
@settings_options
@json_option
def demo(images: int, assignments: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Simulate cultures, do all that `run` does, and ask the endpoint about one image.

    The demo has a home of its own (demo/ in the home), so that it never touches your models.
    """
    from components.culture import Modality
    from components.datasets.simulation import simulate
    from components.settings import load_settings

    own_home = load_settings().home
    home = own_home if own_home.name == "demo" else own_home / "demo"
    ports = {name: port for name, port in DEMO_PORTS.items() if given[name] is None}
    settings = load(given, assignments, home=home, data={"ref": "demo"}, serving=ports)
    folder = settings.home / f"cultures-{images}"
    click.echo(f"simulating {images} culture images in {_relative(folder)}", err=True)
    with progress_shown():
        simulate(folder, images=images, modality=Modality.SINGLE_STACK, seed=0)
    _run(settings, str(folder), as_json)


def _run(settings: "Settings", source: str, as_json: bool) -> None:
    from pipelines.display import RunDisplay
    from pipelines.local import run_train_pipeline
    from pipelines.preflight import check_run
    from pipelines.steps import STEPS

    check_run(settings, source)
    with RunDisplay() as display:
        done = run_train_pipeline(settings, source, display.observe)
        for step in sorted(done.cached, key=STEPS.index):
            display.cached(step)
    answer = _answer(done, settings)
    say(answer, as_json, lambda: _show(answer, settings))
    if not answer["gate"]["passed"] and not answer["gate"]["awaits_approval"]:
        raise GateRefused("the gate refused the model: " + " ".join(answer["gate"]["reasons"]))


def _answer(done: "PipelineRun", settings: "Settings") -> dict[str, Any]:
    """The run's outcome as the one JSON object of its contract."""
    results = done.results
    promoted, registered = results["promote"], results["register"]
    search = results["search"]
    return {
        "data_version": results["validate"]["data_version"],
        "snapshot": results["snapshot"],
        "quarantined": results["validate"]["quarantined"],
        "split": results["split"]["counts"],
        "search": {"trials": search["trials"], "best_value": search["best_value"], "best_lr": search["best_lr"]},
        "training": results["train"],
        "model": {
            "name": registered["name"],
            "version": registered["version"],
            "aliases": promoted["aliases"],
            "digest": registered["digest"],
        },
        "metrics": results["evaluate"],
        "gate": {name: promoted[name] for name in ("passed", "awaits_approval", "reasons", "rules")},
        "endpoint": results.get("deploy"),
        "prediction": results.get("verify"),
        "seconds": done.seconds,
        "cached": done.cached,
        "report": promoted["report"],
        "home": str(settings.home),
        "run": str(done.folder),
    }


def _show(answer: dict[str, Any], settings: "Settings") -> None:
    """The run's outcome for people."""
    if settings.task == "abnormal_cells":
        show_detector(answer)
    else:
        _show_classifier(answer)
    gate, model = answer["gate"], answer["model"]
    reasons = " ".join(gate["reasons"])
    refused = f"waits for approval: {reasons}" if gate["awaits_approval"] else f"was refused: {reasons}"
    verdict = "passed the gate" if gate["passed"] else refused
    click.echo(f"model     {model['name']} version {model['version']} {verdict}")
    if answer["endpoint"]:
        click.echo(f"endpoint  {answer['endpoint']['url']}")
    if answer["prediction"]:
        click.echo(f"asked it  {_sentence(answer['prediction'])}")
    click.echo(f"report    {answer['report']}")
    click.echo(f"seconds   {answer['seconds']['total']:.0f}")
    click.echo(_next_steps(settings, answer["endpoint"]))


def _show_classifier(answer: dict[str, Any]) -> None:
    metrics, parts = answer["metrics"], answer["split"]
    table(
        ["part", "images", *(f"class {name}" for name in parts["train"])],
        ([part, sum(counts.values()), *counts.values()] for part, counts in parts.items()),
        title="Data",
    )
    rows = [
        ("accuracy", metrics["accuracy"]),
        ("always the commonest class", metrics["majority_accuracy"]),
        ("within one class", metrics["within_one_class"]),
        ("ROC AUC, micro", metrics["roc_auc_micro"]),
        ("PR AUC, micro", metrics["pr_auc_micro"]),
    ]
    shown = ((name, "-" if value is None else f"{value:.3f}") for name, value in rows)
    table(["metric", "value"], shown, title=f"Test ({metrics['n']} images of groups never trained on)")


def _sentence(prediction: dict[str, Any]) -> str:
    if "count" in prediction:
        said = f"{prediction['count']} abnormal cells"
    else:
        said = f"class {prediction['class']} ({prediction['name']}), probability {prediction['confidence']:.2f}"
    doubt = f"; it abstains: {prediction['note']}" if prediction["abstain"] else ""
    return f"{said}, by version {prediction['model_version']}{doubt}"


def _next_steps(settings: "Settings", endpoint: dict[str, Any] | None) -> str:
    from components.settings import load_settings

    default = Path(".mscflow").absolute()
    home = "" if settings.home == default else f" --home {_relative(settings.home)}"
    usual = settings.serving.port == load_settings().serving.port
    url = "" if usual or endpoint is None else f" --url {endpoint['url']}"
    return f"\nNext:\n  mscflow predict IMAGE_OR_FOLDER{url}\n  mscflow{home} models list\n  mscflow{home} serve --stop"


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
