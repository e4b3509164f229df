"""A study's three steps, as plain functions: plan its folds, make one, put the tables together.

They share nothing but the object store: ``studies/<id>/jobs`` holds what is to be done, ``folds/<key>.json`` what came
of it, for every study that has the same fold.
"""

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from components.errors import TrainingError
from components.events import Progress
from components.storage import ObjectStore, open_store
from pipelines.study.fold import run_fold
from pipelines.study.images import Gathered
from pipelines.study.job import Job
from pipelines.study.options import StudyOptions
from pipelines.study.report import write_all
from pipelines.study.run import assemble, prepare


def plan(options: StudyOptions) -> dict[str, Any]:
    """Read the sources and put every fold's job into the store.

    Returns:
        ``study`` (its id), ``folds`` (keys of the jobs), ``versions``, ``quarantined`` and ``notes``.

    Raises:
        InputError: if the images or the settings cannot be used.
    """
    prepared = prepare(options)
    store = open_store(options.settings.store_uri)
    keys = [job.unit.key for job in prepared.jobs]
    study = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:16]
    for job in prepared.jobs:
        store.write(_job_key(study, job.unit.key), msgspec.json.encode(job))
    return {
        "study": study,
        "folds": keys,
        "versions": list(prepared.gathered.versions),
        "quarantined": prepared.gathered.quarantined,
        "notes": list(prepared.plan.notes),
    }


def make_fold(store_uri: str, study: str, key: str, home: Path) -> dict[str, Any]:
    """Train and score one fold, unless the store has its result.

    Returns:
        ``key`` and ``found``; ``failed`` (why it has no result) where the fit diverged, which ends no study.

    Raises:
        InputError: if the images, the weights or the disk cannot be used.
        ObjectNotFound: if the study has no such fold.
    """
    store = open_store(store_uri)
    if store.stat(_fold_key(key)) is not None:
        return {"key": key, "found": True}
    told = msgspec.json.decode(store.read(_job_key(study, key)), type=Job)
    job = msgspec.structs.replace(told, store_uri=store_uri, home=str(home), out=str(home / "study"))
    epochs = Progress(f"{job.unit.cell.name}, fold {job.unit.fold.name}", job.unit.settings.epochs, "epochs")
    try:
        run_fold(job, lambda _epoch, _seconds, figure: epochs.advance(note=f"{figure:.3f}"))
    except TrainingError as error:
        return {"key": key, "found": False, "failed": str(error)}
    store.write(_fold_key(key), job.result_path)
    return {"key": key, "found": False}


def put_together(options: StudyOptions, planned: dict[str, Any], made: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Make a study's tables and its report of what ``plan`` and every ``make_fold`` gave.

    Returns:
        ``folds`` (how many were made, found, failed), ``versions``, ``report`` (where the page lies in the store), and
        ``page``, its path here.

    Raises:
        TrainingError: if no fold has a result.
        StorageError: if the store or the disk cannot be used.
    """
    started = time.perf_counter()
    folds = list(made)
    failures = {fold["key"]: fold["failed"] for fold in folds if "failed" in fold}
    if len(failures) == len(folds):
        raise TrainingError(f"all {len(folds)} folds failed; the first: {next(iter(failures.values()))}")
    prepared = prepare(options, Gathered(tuple(planned["versions"]), _counts(planned["quarantined"])))
    store = open_store(options.settings.store_uri)
    _fetch(store, [job for job in prepared.jobs if job.unit.key not in failures])
    study = assemble(prepared, failures, sum(fold["found"] for fold in folds), started)
    files = write_all(study, options.out)
    for name, path in files.items():
        store.write(f"studies/{planned['study']}/{name}", Path(path))
    return {
        "folds": {"made": study.made, "found": study.found, "failed": len(failures)},
        "versions": list(study.versions),
        "report": f"{store.uri.rstrip('/')}/studies/{planned['study']}/report.html",
        "page": files["report.html"],
    }


def _fetch(store: ObjectStore, jobs: Iterable[Job]) -> None:
    for job in jobs:
        job.result_path.parent.mkdir(parents=True, exist_ok=True)
        job.result_path.write_bytes(store.read(_fold_key(job.unit.key)))


def _counts(quarantined: dict[str, Any]) -> dict[str, int]:
    return {reason: int(count) for reason, count in quarantined.items()}


def _job_key(study: str, key: str) -> str:
    return f"studies/{study}/jobs/{key}.json"


def _fold_key(key: str) -> str:
    return f"folds/{key}.json"
