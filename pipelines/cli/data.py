"""`mscflow data`: versions of image sets."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.output import Command, json_option, progress_shown, say, table

if TYPE_CHECKING:
    from components.datasets.versions import DataRepository, VerifyReport
    from components.settings import Settings

SHOWN = 20  # rows of long lists that people get; --json gives all of them


def _repository(settings: "Settings | None" = None) -> "DataRepository":
    from components.datasets.versions import DataRepository
    from components.settings import load_settings
    from components.storage import open_store

    settings = settings or load_settings()
    return DataRepository(open_store(settings.store_uri), cache=settings.home / "cache")


def _source_options(command: Command) -> Command:
    """Add what says how a source is read."""
    options = (
        click.option("--modality", help="single_stack or multi_stack, where the source does not tell."),
        click.option("--layout", help="Layout of the source; default: recognised."),
        click.option("--unlabelled", is_flag=True, help="Keep images without a confluence class."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def data() -> None:
    """Versions of image sets: import, compare, check out, verify, simulate."""


@data.command("import")
@click.argument("source")
@click.option("--ref", help="Lineage to add to; default: the source's name.")
@_source_options
@click.option("--message", "-m", default="import", show_default=True, help="Why, for the log.")
@json_option
def import_(source: str, as_json: bool, message: str, **given: Any) -> None:
    """Add the images of SOURCE (a folder or s3:// prefix) to a ref; what it holds already stays.

    \b
    Examples:
      mscflow data import batches/2026-11-23 --ref clinic
      mscflow data import s3://cultures/raw --modality multi_stack -m "new flasks"
    """
    _take(source, message, as_json, extend=True, **given)


@data.command()
@click.argument("source")
@click.option("--ref", help="Lineage that the version continues; default: the source's name.")
@_source_options
@click.option("--message", "-m", default="snapshot", show_default=True, help="Why, for the log.")
@json_option
def snapshot(source: str, as_json: bool, message: str, **given: Any) -> None:
    """Record what SOURCE (a folder or s3:// prefix) holds now; the ref then has these images alone.

    \b
    Example:
      mscflow data snapshot photos/ --ref clinic
    """
    _take(source, message, as_json, extend=False, **given)


def _take(
    source: str,
    message: str,
    as_json: bool,
    *,
    extend: bool,
    ref: str | None,
    modality: str | None,
    layout: str | None,
    unlabelled: bool,
) -> None:
    from components.datasets.steps import lineage_name, take
    from components.settings import load_settings
    from components.storage import open_store

    settings = load_settings(modality=modality)
    name = ref or lineage_name(source)
    with progress_shown():
        taken = take(
            open_store(source, must_exist=True),
            open_store(settings.store_uri),
            settings.home,
            ref=name,
            message=message,
            modality=settings.modality if modality else None,
            unlabelled=unlabelled,
            layout=layout,
            extend=extend,
        )
    answer = {**taken.snapshot._asdict(), "ref": name, "layout": taken.layout, "left_out": taken.left_out}
    say(answer, as_json, lambda: _show_taken(answer))


def _show_taken(answer: dict[str, Any]) -> None:
    state = "" if answer["changed"] else " (unchanged)"
    click.echo(
        f"{answer['ref']}: {answer['images']} images, {answer['new_images']} new, layout {answer['layout']}{state}"
    )
    for reason, count in answer["left_out"].items():
        click.echo(f"left out: {count} {reason}")
    click.echo(f"version {answer['version']}")


@data.command()
@click.argument("ref", required=False)
@json_option
def log(ref: str | None, as_json: bool) -> None:
    """Show the versions that REF has had, the newest first; without REF, all refs."""
    import msgspec

    repository = _repository()
    if ref is None:
        refs = repository.refs()
        say(refs, as_json, lambda: table(["ref", "version"], refs.items()))
        return
    entries = [msgspec.to_builtins(entry) for entry in repository.log(ref)]
    columns = ["time", "version", "images", "author", "message", "source"]
    rows = (
        [entry["time"][:19], entry["version"][:12], *(entry.get(name) for name in columns[2:])] for entry in entries
    )
    say(entries, as_json, lambda: table(columns, rows))


@data.command()
@click.argument("version")
@json_option
def show(version: str, as_json: bool) -> None:
    """Summarise VERSION (a ref, an id, or the first digits of one)."""
    from collections import Counter

    repository = _repository()
    found = repository.resolve(version)
    classes: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    groups: set[str] = set()
    size = 0
    for record in repository.records(found):
        classes[str(int(record.confluence_class)) if record.confluence_class else "unlabelled"] += 1
        sources[record.source or "-"] += 1
        groups.add(record.split_group)
        size += record.size
    answer = {
        "version": found,
        "images": sum(classes.values()),
        "classes": dict(sorted(classes.items())),
        "sources": dict(sources.most_common()),
        "groups": len(groups),
        "bytes": size,
    }
    say(answer, as_json, lambda: table(["field", "value"], _lines(answer)))


def _lines(answer: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for key, value in answer.items():
        yield key, ", ".join(f"{name}: {count}" for name, count in value.items()) if isinstance(value, dict) else value


@data.command()
@click.argument("before")
@click.argument("after")
@json_option
def diff(before: str, after: str, as_json: bool) -> None:
    """Show what differs between the versions BEFORE and AFTER (refs, ids, or first digits)."""
    repository = _repository()
    found = repository.diff(repository.resolve(before), repository.resolve(after))
    counts = {"added": found.added, "removed": found.removed, "changed": found.changed}
    if as_json:
        changes = [{"kind": change.kind, "path": change.path} for change in found]
        say({"before": found.before, "after": found.after, **counts, "changes": changes}, as_json, lambda: None)
        return
    click.echo(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    for change in islice(found, SHOWN):
        click.echo(f"  {change.kind:<9} {change.path}")
    if (more := sum(counts.values()) - SHOWN) > 0:
        click.echo(f"  … and {more} more (--json lists all)")


@data.command()
@click.argument("version")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def checkout(version: str, folder: Path, as_json: bool) -> None:
    """Write VERSION into FOLDER: its images and the tables to import it from again.

    \b
    Example:
      mscflow data checkout clinic /tmp/clinic
    """
    from components.events import Progress

    repository = _repository()
    found = repository.resolve(version)
    with progress_shown():
        images = repository.checkout(found, folder, Progress("writing", total=None, unit="images"))
    answer = {"version": found, "folder": str(folder), "images": images}
    say(answer, as_json, lambda: click.echo(f"wrote {images} images to {folder}"))


@data.command()
@click.argument("version", required=False)
@json_option
def verify(version: str | None, as_json: bool) -> None:
    """Hash every stored image of VERSION (default: of all) again; report what is missing or altered.

    Exit code 1 if anything is.
    """
    from components.errors import IntegrityError
    from components.events import Progress

    repository = _repository()
    found = None if version is None else repository.resolve(version)
    with progress_shown():
        report = repository.verify(found, Progress("hashing", total=None, unit="images"))
    answer = {
        "clean": report.clean,
        "versions": report.versions,
        "checked": report.checked,
        "missing": [fault._asdict() for fault in report.missing],
        "altered": [fault._asdict() for fault in report.altered],
    }
    say(answer, as_json, lambda: _show_verified(report))
    if not report.clean:
        raise IntegrityError(f"{len(report.missing)} objects are missing and {len(report.altered)} altered")


def _show_verified(report: "VerifyReport") -> None:
    click.echo(f"{report.checked} images of {report.versions} versions checked")
    for word, faults in (("missing", report.missing), ("altered", report.altered)):
        for fault in faults[:SHOWN]:
            click.echo(f"  {word}: {fault.key} (needed by {fault.needed_by})")


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--images", default=240, show_default=True, help="How many.")
@click.option("--modality", default="single_stack", show_default=True, help="single_stack or multi_stack.")
@click.option("--seed", default=0, show_default=True)
@click.option("--size", default=None, type=int, help="Side of the images in pixels.")
@json_option
def simulate(folder: Path, images: int, modality: str, seed: int, size: int | None, as_json: bool) -> None:
    """Write simulated culture images of known confluence into FOLDER, with the tables to import them.

    \b
    Example:
      mscflow data simulate cultures/ --images 500 --modality multi_stack --seed 7
    """
    from components.datasets import simulation
    from components.settings import load_settings

    chosen = load_settings(modality=modality).modality
    sizes: dict[str, Any] = {} if size is None else {"size": (size, size)}
    with progress_shown():
        made = simulation.simulate(folder, images=images, modality=chosen, seed=seed, **sizes)
    answer = {
        "folder": str(made.folder),
        "images": made.images,
        "classes": {str(int(name)): count for name, count in made.classes.items()},
        "vessels": made.vessels,
        "boxes": made.boxes,
        "seconds": round(made.seconds, 1),
        "drawn": made.drawn,
    }
    say(answer, as_json, lambda: table(["field", "value"], _lines(answer)))
