"""`mscflow study`: the paper's cross-validation, its tables and a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.output import json_option, say, table
from pipelines.cli.run import backend_option, merge, parse_assignments

if TYPE_CHECKING:
    from components.settings import Settings
    from pipelines.study.options import StudyOptions
    from pipelines.study.run import Study
    from pipelines.study.tables import Row


@click.command()
@click.option(
    "--data",
    "sources",
    required=True,
    multiple=True,
    metavar="SOURCE",
    help="Folder or s3://bucket/prefix of images, or a data version; several are put together.",
)
@click.option("--backbones", default="all", show_default=True, help="Names with commas between them, or all.")
@click.option("--modalities", default="all", show_default=True, help="single_stack, multi_stack or all.")
@click.option(
    "--protocol",
    type=click.Choice(["grouped", "published", "both"]),
    default="grouped",
    show_default=True,
    help="Folds of whole vessels; or as published, of images, the epoch chosen on the scored fold; or both.",
)
@click.option("--folds", type=int, help="How many; default 5.")
@click.option("--task", "tasks", default="all", show_default=True, help="confluence, abnormal_cells or all.")
@click.option("--equalisation", default="none", show_default=True, help="none, equalise, clahe or all (multi-stack).")
@click.option(
    "--clumps",
    type=click.Choice(["kept", "masked", "both"]),
    default="kept",
    show_default=True,
    help="Dark clumps in multi-stack images.",
)
@click.option("--leave-out", metavar="COLUMN", help="Leave out one source, lab or donor at a time, as well.")
@click.option("--lr", type=float, help="Learning rate; default: searched inside the training folds.")
@click.option("--positive", help="Labels of boxes that are abnormal cells, with commas between them.")
@click.option("--processes", type=int, help="Folds made at a time; default: one a GPU, or else one a core.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the study; default: studies/NAME in the home.")
@backend_option("; --out and --processes are of this machine")
@click.option("--preset", help="How much work: quick (default), standard or paper.")
@click.option("--weights", help="'auto', 'none', 'torchvision' or a local weights file.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any setting, e.g. training.epochs=5.")
@json_option
def study(assignments: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Cross-validate backbones, and write Tables 1 and 2 and a report.

    It can be stopped at any time, also by force; the same command goes on at the fold and epoch where it
    was. Exit code 1: some folds failed, for instance because a learning rate was too high.

    \b
    Examples:
      mscflow study --data photos/ --backbones mobilenet_v3,shufflenet_v2
      mscflow study --data single/ --data multi/ --protocol both --preset paper
      mscflow study --data photos/ --task confluence --leave-out source --lr 1e-3
    """
    from components.errors import TrainingError

    options = _options(given, assignments)
    if given["backend"] == "kubeflow":
        from pipelines.cli.submit import run_there
        from pipelines.kubeflow.submission import study_run

        run_there("study", options.settings, study_run(options), as_json)
        return
    from pipelines.study.report import write_all
    from pipelines.study.run import run_study

    done = run_study(options)
    files = write_all(done, options.out)
    answer = _answer(done, files)
    say(answer, as_json, lambda: _show(done, files))
    if done.failures:
        name, why = next(iter(done.failures.items()))
        total = len(done.failures) + len(done.results)
        raise TrainingError(f"{len(done.failures)} of {total} folds failed; {name}: {why}")


def _options(given: dict[str, Any], assignments: tuple[str, ...]) -> "StudyOptions":
    from components.culture import Task
    from pipelines.study.options import (
        PROTOCOLS,
        StudyOptions,
        parse_backbones,
        parse_clumps,
        parse_equalisations,
        parse_modalities,
        parse_tasks,
    )

    backbones, modalities = parse_backbones(given["backbones"]), parse_modalities(given["modalities"])
    tasks = parse_tasks(given["tasks"])
    settings = _settings(given, assignments, Task.CONFLUENCE)
    # What suits one task need not suit another that nobody asked for.
    looks = Task.ABNORMAL_CELLS in tasks
    protocols = PROTOCOLS[given["protocol"]] + (("left_out",) if given["leave_out"] else ())
    return StudyOptions(
        sources=tuple(given["sources"]),
        tasks=tasks,
        backbones=backbones,
        modalities=modalities,
        protocols=protocols,
        leave_out=given["leave_out"],
        equalisations=parse_equalisations(given["equalisation"]),
        clumps=parse_clumps(given["clumps"]),
        folds=settings.study.folds,
        out=(given["out"] or settings.home / "studies" / _name(given["sources"][0])).absolute(),
        settings=settings,
        detection=_settings(given, assignments, Task.ABNORMAL_CELLS) if looks else settings,
    )


def _settings(given: dict[str, Any], assignments: tuple[str, ...], task: str) -> "Settings":
    from components.settings import load_settings

    overrides: dict[str, Any] = {
        "task": task,
        "preset": given["preset"],
        "training": {"weights": given["weights"], "learning_rate": given["lr"]},
        "detection": {"positive": given["positive"]},
        "study": {"folds": given["folds"], "processes": given["processes"]},
    }
    return load_settings(**merge(overrides, parse_assignments(assignments)))


def _name(source: str) -> str:
    from components.datasets.steps import lineage_name

    return lineage_name(source)


def _answer(done: "Study", files: dict[str, str]) -> dict[str, Any]:
    """The study's outcome as one JSON object."""
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(done)
    told["folds"] = {"made": done.made, "found": done.found, "failed": len(done.failures)}
    for name in ("results", "made", "found"):  # each fold has a file of its own
        del told[name]
    return {**told, "files": files, "report": files["report.html"]}


def _show(done: "Study", files: dict[str, str]) -> None:
    from pipelines.study import writers
    from pipelines.study.findings import findings

    for rows in (done.table_1, done.table_2):
        for heading, some in writers.blocks(rows):
            _table(some, f"{writers.title(some[0].cell.task).partition(':')[0]}: {heading}")
    for sentence in findings(done):
        click.echo(f"- {sentence}")
    click.echo("")
    for name, path in files.items():
        click.echo(f"{name:<12} {path}")
    click.echo(f"{'seconds':<12} {done.seconds:.0f} ({done.made} folds made, {done.found} found)")


def _table(rows: "list[Row]", title: str) -> None:
    from pipelines.study import writers
    from pipelines.study.tables import METRICS

    metrics = [metric for metric in METRICS[rows[0].cell.task] if not metric.name.startswith("ece")]
    lines = []
    for row in rows:
        cells = [
            f"{writers.mean_and_sd(row.figures[metric.name].mean, row.figures[metric.name].sd, metric)}"
            f"{' *' if metric.name in row.best else ''}"
            for metric in metrics
        ]
        theirs = row.paper.get("accuracy") or row.paper.get("hit_rate")
        lines.append([row.label, *cells, writers.mean_and_sd(*theirs, metrics[0]) if theirs else "–"])
    table(["backbone", *(metric.label for metric in metrics), f"paper: {metrics[0].label.lower()}"], lines, title=title)
