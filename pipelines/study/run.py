"""A study from its sources to its report; it goes on where it was stopped."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from components.culture import Task
from components.datasets.arrays import load_arrays
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.errors import SettingsError, StorageError
from components.imaging import Preprocessing
from components.models.backbones import check_size
from components.provenance import code_version
from components.storage import open_store
from pipelines.display import progress_shown
from pipelines.study import baseline
from pipelines.study.display import StudyDisplay
from pipelines.study.forecast import Forecast
from pipelines.study.images import Gathered, gather, records_of
from pipelines.study.job import Job
from pipelines.study.options import StudyOptions
from pipelines.study.plan import Plan, Unit, make_plan
from pipelines.study.pool import Pool
from pipelines.study.results import FoldResult, read_result
from pipelines.study.tables import Contrast, Row, contrasts, judge, make_row


@dataclass(frozen=True)
class Prepared:
    """A study before its folds are made.

    Attributes:
        jobs: One a fold, in the order of the plan.
    """

    options: StudyOptions
    gathered: Gathered
    repository: DataRepository
    plan: Plan
    jobs: list[Job]

    @property
    def cache(self) -> Path:
        """Where decoded images are kept."""
        return self.options.settings.home / "cache"

    def found(self) -> dict[str, FoldResult]:
        """Give the results that are there, by key."""
        read = {job.unit.key: read_result(job.result_path, job.unit.key) for job in self.jobs}
        return {key: result for key, result in read.items() if result is not None}


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """A finished study: all that its tables and its report show.

    Attributes:
        table_1: Rows of the classifiers, the baselines' among them.
        table_2: Rows of the detectors.
        leak: What the published protocol adds to each network's figures.
        clumps: What masking clumps out adds.
        results: Every fold.
        failures: Why folds have no result, by their names.
    """

    out: str
    versions: tuple[str, ...]
    quarantined: dict[str, int]
    images: dict[str, dict[str, int]]
    settings: dict[str, Any]
    table_1: tuple[Row, ...]
    table_2: tuple[Row, ...]
    leak: tuple[Contrast, ...]
    clumps: tuple[Contrast, ...]
    results: tuple[FoldResult, ...]
    failures: dict[str, str]
    notes: tuple[str, ...]
    made: int
    found: int
    seconds: float
    code_version: str


def run_study(options: StudyOptions) -> Study:
    """Make every fold that is not there yet, and put the tables together.

    Args:
        options: What to do.

    Raises:
        InputError: if the images, the settings or the disk cannot be used, or a study is at work in the same folder.
        pool.Failed: if a fold failed in a way that others would too.
        KeyboardInterrupt: after Ctrl-C, once the workers have ended.
    """
    started = time.perf_counter()
    with _alone(options.out):
        with progress_shown():
            prepared = prepare(options)
        found = prepared.found()
        waiting = [job for job in prepared.jobs if job.unit.key not in found]
        with progress_shown():
            _decode(prepared.repository, prepared.plan, waiting, prepared.cache)
        failures = _make(options, prepared.plan, waiting, found)
        with progress_shown():
            return assemble(prepared, failures, len(found), started)


def prepare(options: StudyOptions, gathered: Gathered | None = None) -> Prepared:
    """Read what a study is of and plan its folds.

    Args:
        options: What to do.
        gathered: Its data versions, where they have been made before.

    Raises:
        InputError: if the images or the settings cannot be used.
    """
    _check(options)
    held = gathered or gather(options.sources, options.settings)
    repository = DataRepository(open_store(options.settings.store_uri), cache=options.settings.home / "cache")
    plan = make_plan(options, records_of(repository, held.versions, options.stray_modality))
    return Prepared(options, held, repository, plan, [_job(options, held, unit) for unit in plan.units])


def assemble(prepared: Prepared, failures: Mapping[str, str], found: int, started: float) -> Study:
    """Put the tables together, once every fold has its result or failed.

    Args:
        prepared: The study, whose results are in its folder.
        failures: Why folds have none, by key.
        found: How many were there before.
        started: When the study began, as ``time.perf_counter`` has it.
    """
    without = baseline.rows(prepared.repository, prepared.plan, prepared.cache)
    rows = judge([*_rows(prepared.jobs), *without])
    return _study(prepared.options, prepared.gathered, prepared.plan, prepared.jobs, rows, failures, found, started)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second study out of the folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise StorageError(f"--out '{out}' cannot be written ({error.strerror}); choose another folder") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                f"--out '{out}': another study is at work there; wait for it, or give another folder"
            ) from None
        yield


def _check(options: StudyOptions) -> None:
    for task in options.tasks:
        settings = options.settings if task == Task.CONFLUENCE else options.detection
        for backbone in options.backbones:
            check_size(backbone, settings.training.image_size)


def _job(options: StudyOptions, gathered: Gathered, unit: Unit) -> Job:
    return Job(
        unit=unit,
        store_uri=options.settings.store_uri,
        versions=gathered.versions,
        stray=options.stray_modality,
        home=str(options.settings.home),
        out=str(options.out),
    )


def _decode(repository: DataRepository, plan: Plan, jobs: Sequence[Job], cache: Path) -> None:
    """Decode each image once for all folds and backbones that are shown the same of it."""
    shown: dict[Preprocessing, dict[str, ImageRecord]] = {}
    for job in jobs:
        unit, settings = job.unit, job.unit.settings
        prep = Preprocessing(
            size=settings.image_size,
            planes=settings.planes,
            clumps=settings.clumps,
            equalisation=settings.equalisation,
        )
        records = plan.records[unit.cell.task, unit.cell.modality]
        shown.setdefault(prep, {}).update((record.sha256, record) for record in records)
    for prep, wanted in shown.items():
        load_arrays(repository, list(wanted.values()), prep, cache)


def _make(options: StudyOptions, plan: Plan, jobs: Sequence[Job], found: Mapping[str, FoldResult]) -> dict[str, str]:
    """Make the folds that are missing, several at a time, and tell why some have no result."""
    devices = _devices()
    processes = min(options.settings.study.processes or len(devices) or _cores(), max(1, len(jobs)))
    forecast = Forecast({unit.key: unit for unit in plan.units}, processes)
    by_key = {job.unit.key: job for job in jobs}
    for key, result in found.items():
        forecast.found(key, result)
    if not jobs:
        return {}
    with StudyDisplay(plan, forecast) as display:
        for key, result in found.items():
            display.found(key, result)

        def observe(event: dict[str, Any]) -> None:
            key = event["key"]
            display.observe(event)
            match event["event"]:
                case "begun":
                    forecast.begun(key, time.monotonic())
                case "trial":
                    forecast.trial(key, event["done"])
                case "epoch":
                    forecast.epoch(key, event["epoch"], event["seconds"])
                case "done" | "failed":
                    result = read_result(by_key[key].result_path, key)
                    forecast.finished(key, result, time.monotonic())
                    display.made(key, result)

        return Pool(processes, devices, options.out / "log.txt").run(jobs, observe, display.tick)


def _cores() -> int:
    from components.training.ranks import available_cores

    return available_cores()


def _devices() -> list[str]:
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return given.split(",")[:count] if given else [str(number) for number in range(count)]


def _rows(jobs: Sequence[Job]) -> list[Row]:
    folds: dict[Any, dict[str, Any]] = {}
    for job in jobs:
        result = read_result(job.result_path, job.unit.key)
        folds.setdefault(job.unit.cell, {})[job.unit.fold.name] = result.figures if result else None
    return [make_row(cell, figures) for cell, figures in folds.items()]


def _study(
    options: StudyOptions,
    gathered: Gathered,
    plan: Plan,
    jobs: Sequence[Job],
    rows: Sequence[Row],
    failures: Mapping[str, str],
    found: int,
    started: float,
) -> Study:
    named = {job.unit.key: f"{job.unit.cell.name}, fold {job.unit.fold.name}" for job in jobs}
    results = [read_result(job.result_path, job.unit.key) for job in jobs]
    table_1 = tuple(row for row in rows if row.cell.task == Task.CONFLUENCE)
    networks = [row for row in rows if not row.is_baseline]
    return Study(
        out=str(options.out),
        versions=gathered.versions,
        quarantined=gathered.quarantined,
        images={f"{task}, {modality}": _counted(task, some) for (task, modality), some in plan.records.items()},
        settings=_told(options),
        table_1=table_1,
        table_2=tuple(row for row in rows if row.cell.task == Task.ABNORMAL_CELLS),
        leak=tuple(contrasts(networks, "protocol", "published", "grouped", paired=False)),
        clumps=tuple(contrasts(networks, "clumps", "masked", "kept", paired=True)),
        results=tuple(result for result in results if result is not None),
        failures={named[key]: why for key, why in failures.items()},
        notes=plan.notes,
        made=len(jobs) - found - len(failures),
        found=found,
        seconds=round(time.perf_counter() - started, 3),
        code_version=code_version(),
    )


def _counted(task: Task, records: Sequence[ImageRecord]) -> dict[str, int]:
    counts = {"images": len(records), "groups": len({record.split_group for record in records})}
    if task == Task.CONFLUENCE:
        return counts | {
            f"class {number}": sum(record.confluence_class == number for record in records) for number in range(1, 5)
        }
    boxed = [record for record in records if record.boxes]
    return counts | {"with boxes": len(boxed), "boxes": sum(len(record.boxes or ()) for record in boxed)}


def _told(options: StudyOptions) -> dict[str, Any]:
    chosen = {"training": options.settings.training, "search": options.settings.search, "split": options.settings.split}
    told: dict[str, Any] = {name: section.model_dump(mode="json") for name, section in chosen.items()}
    if Task.ABNORMAL_CELLS in options.tasks:
        told["detection"] = options.detection.detection.model_dump(mode="json")
        told["training of detectors"] = options.detection.training.model_dump(mode="json")
    return told | {"folds": options.folds, "leave_out": options.leave_out, "preset": options.settings.preset}
