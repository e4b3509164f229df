"""Running the pipelines on this machine with ``kfp.local``.

``kfp.local`` runs each step in a process of its own and prints everything that the steps print. Here
that goes to the run's log file, while the steps' own events (``components.events``) tell the observer
what happens and, at the end, what came of it.
"""

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.errors import MscflowError, StorageError, is_outage
from components.events import Observer
from components.lifeline import alive
from components.settings import Settings
from pipelines.arguments import pipeline_arguments, retrain_arguments
from pipelines.surroundings import environment, interruptible, logged, observed, quiet

Event = dict[str, Any]


class StepFailed(MscflowError):
    """A step of the pipeline failed; the message, the exit code and the kind of error are the step's own."""

    def __init__(self, message: str, exit_code: int, kind: str = "") -> None:
        super().__init__(message)
        self.exit_code, self.kind = exit_code, kind


@dataclass
class PipelineRun:
    """What came of one run of a pipeline.

    Attributes:
        folder: Of the run, with its events and its log.
        results: Of each step that ran, or whose result was there already.
        seconds: Of each of them, and ``total``.
        cached: Those whose result was there already.
    """

    folder: Path
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)


def run_train_pipeline(settings: Settings, source: str, observe: Observer) -> PipelineRun:
    """Run the training pipeline in this machine's environment.

    Args:
        settings: All settings of the run.
        source: Folder or ``s3://`` prefix of the images.
        observe: Called, from another thread, with each event of each step.

    Raises:
        StepFailed: with the failing step's own message and exit code.
        KeyboardInterrupt: after Ctrl-C, once the step in work has been stopped.
    """

    def compose() -> dict[str, Any]:
        from pipelines.train import train_pipeline

        given = train_pipeline(**pipeline_arguments(settings, source)).outputs
        return {name: json.loads(result) for name, result in given.items()}

    return _run(settings, {"source": source}, compose, observe)


def run_retrain_pipeline(
    settings: Settings, watched: str, batch: str, lineage: str, owner: str, observe: Observer
) -> PipelineRun:
    """Run the retraining pipeline in this machine's environment: on one batch, or on none if there is nothing new.

    A batch whose run failed is concluded as failed, in the ledger and in the audit log, before the error is
    raised; one whose run was interrupted or killed is not, and is taken over once its lease has run out.

    Args:
        settings: All settings of the run.
        watched: Folder or ``s3://`` prefix whose sub-folders are batches; empty where ``batch`` is given.
        batch: Folder or ``s3://`` prefix of one batch; empty for the oldest that nobody has worked on.
        lineage: That the batch is added to.
        owner: Who works on it, for the ledger and the audit log.
        observe: Called, from another thread, with each event of each step.

    Returns:
        The results by step (``pipelines.steps.RETRAIN_STEPS``); ``poll`` alone where nothing was found.

    Raises:
        StepFailed: with the failing step's own message and exit code.
        KeyboardInterrupt: after Ctrl-C, once the step in work has been stopped.
    """

    def compose() -> dict[str, Any]:
        from pipelines.retrain import retrain_pipeline

        retrain_pipeline(**retrain_arguments(settings, watched, batch, lineage, owner))
        return {}

    def fail(run: PipelineRun, error: StepFailed) -> None:
        _conclude_failed(settings, lineage, owner, run.folder / "events.jsonl", error)

    run = _run(settings, {"watched": watched, "batch": batch, "lineage": lineage}, compose, observe, fail)
    _fill(run, run.results.get("conclude", {}).pop("steps", {}))
    return run


def _run(
    settings: Settings,
    about: Mapping[str, str],
    compose: Callable[[], dict[str, Any]],
    observe: Observer,
    fail: Callable[[PipelineRun, StepFailed], None] = lambda _run, _error: None,
) -> PipelineRun:
    started = time.perf_counter()
    run = PipelineRun(_new_folder(settings.home))
    events = run.folder / "events.jsonl"
    events.touch()
    log = run.folder / "log.txt"
    with (
        logged(log),
        environment(settings, run.folder, about),
        alive(events),
        observed(events, observe),
        interruptible(),
    ):
        try:
            outputs = _run_kfp(settings, compose, run.folder)
        except RuntimeError as error:
            failure = _failure(events, run.folder)
            fail(run, failure)
            raise failure from error
    _collect(run, events)
    _fill(run, outputs)
    run.seconds["total"] = round(time.perf_counter() - started, 3)
    return run


def _new_folder(home: Path) -> Path:
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    folder = home / "runs" / name
    try:
        (folder / "tmp").mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"home '{home}' cannot be written: {error.strerror}; choose another with --home") from error
    return folder


def _run_kfp(settings: Settings, compose: Callable[[], dict[str, Any]], folder: Path) -> dict[str, Any]:
    from kfp import local

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(settings.home / "artifacts"),
        workspace_root=str(folder / "workspace"),
        enable_caching=True,
        # Steps are cached by their inputs; other code is another cache.
        cache_root=str(settings.home / "cache" / "steps" / _code_digest()),
    )
    with (folder / "log.txt").open("a", encoding="utf-8", buffering=1) as log, quiet(log):
        return compose()


def _code_digest() -> str:
    """Digest of the steps' sources."""
    import components

    digest = hashlib.sha256()
    root = Path(components.__path__[0])
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _read(events: Path) -> list[Event]:
    return [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]


def _failure(events: Path, folder: Path) -> StepFailed:
    """The failing step's own error, rather than kfp's, which names the task alone."""
    read = _read(events)
    for event in read:
        if event["event"] == "failed":
            message = f"step '{event['step']}': {event['message']}"
            if event["error"] == "bug":
                message += f"; this is a bug of mscflow; the log is {folder / 'log.txt'}"
            return StepFailed(message, event["exit_code"], event["error"])
    running = [event["step"] for event in read if event["event"] == "started"]
    step = running[-1] if running else "the first step"
    return StepFailed(f"step '{step}' ended without a word (killed, or out of memory?); log: {folder / 'log.txt'}", 1)


def _conclude_failed(settings: Settings, lineage: str, owner: str, events: Path, error: StepFailed) -> None:
    from components.batches.outcome import conclude_failed

    finished = {event["step"]: event["result"] for event in _read(events) if event["event"] == "finished"}
    polled = finished.get("poll", {})
    if not polled.get("found"):
        return
    # What failed the run matters more than a store that cannot be told; the lease then runs out by itself.
    with contextlib.suppress(MscflowError):
        conclude_failed(
            settings.store_uri,
            lineage,
            polled["batch"],
            polled["id"],
            owner,
            str(error),
            error.exit_code,
            outage=is_outage(error.kind),
        )


def _collect(run: PipelineRun, events: Path) -> None:
    for event in _read(events):
        if event["event"] == "finished":
            run.results[event["step"]] = event["result"]
            run.seconds[event["step"]] = event["seconds"]


def _fill(run: PipelineRun, results: Mapping[str, dict[str, Any]]) -> None:
    """Add the results of steps without an event: they did not run, their results come from the cache."""
    for name, result in results.items():
        if name not in run.results:
            run.results[name] = result
            run.seconds[name] = 0.0
            run.cached.append(name)
