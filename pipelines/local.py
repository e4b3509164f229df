"""Running the training pipeline on this machine with ``kfp.local``.

``kfp.local`` runs each step in a process of its own and prints everything that the steps print. Here
that goes to the run's log file, while the steps' own events (``components.events``) tell the observer
what happens and, at the end, what came of it.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from components.errors import MscflowError, StorageError
from components.events import EVENTS_VARIABLE, Observer
from components.settings import Settings

Event = dict[str, Any]


class StepFailed(MscflowError):
    """A step of the pipeline failed; the message and the exit code are the step's own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class PipelineRun:
    """What came of one run of the pipeline."""

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
    started = time.perf_counter()
    run = PipelineRun(_new_folder(settings.home))
    events = run.folder / "events.jsonl"
    events.touch()
    log = run.folder / "log.txt"
    with _logged(log), _environment(settings, run, source), _observed(events, observe), _interruptible():
        try:
            outputs = _run_kfp(settings, source, run.folder)
        except RuntimeError as error:
            raise _failure(events, run.folder) from error
    _collect(run, events, outputs)
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


@contextlib.contextmanager
def _environment(settings: Settings, run: PipelineRun, source: str) -> Iterator[None]:
    """Give the steps' processes what they need to know, and end the tracked run whatever happens."""
    from components import tracking

    uri = settings.mlflow_uri
    parameters = {"source": source, "preset": settings.preset, "backbone": settings.training.backbone}
    tags = {"mscflow.run": run.folder.name, "mscflow.modality": settings.modality}
    run_id = tracking.start_parent(uri, "mscflow", run.folder.name, parameters, tags)
    changes = {
        "MSCFLOW_HOME": str(settings.home),
        "MSCFLOW_TRACKING_URI": uri,
        EVENTS_VARIABLE: str(run.folder / "events.jsonl"),
        "MLFLOW_RUN_ID": run_id,
        "TMPDIR": str(run.folder / "tmp"),  # kfp leaves a folder behind for each task
        # OpenMP's threads spin while they wait for each other; where anything else wants the cores, a fit
        # that spins for long takes three to ten times as long.
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000"),
    }
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    except BaseException as error:
        # What ended the run matters more than a tracking server that cannot be told.
        with contextlib.suppress(MscflowError):
            tracking.end_parent(uri, run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    else:
        tracking.end_parent(uri, run_id, "FINISHED")
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(run.folder / "tmp", ignore_errors=True)


@contextlib.contextmanager
def _observed(events: Path, observe: Observer) -> Iterator[None]:
    """Pass each event on to the observer as it is written."""
    done = threading.Event()

    def follow() -> None:
        with events.open(encoding="utf-8") as file:
            pending = ""
            while True:
                finished = done.is_set()  # asked first, so that nothing written before it is missed
                pending += file.read()
                *lines, pending = pending.split("\n")
                for line in lines:
                    observe(json.loads(line))
                if finished:
                    return
                done.wait(0.1)

    thread = threading.Thread(target=follow, name="events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=5)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Stop the step in work when this process is interrupted, also where only this process was signalled."""
    try:
        yield
    except KeyboardInterrupt:
        import psutil

        # The endpoint that a deploy step starts has a session of its own and lives on.
        mine = [child for child in psutil.Process().children(recursive=True) if os.getsid(child.pid) == os.getsid(0)]
        for child in mine:
            child.terminate()
        _, alive = psutil.wait_procs(mine, timeout=5)
        for child in alive:
            child.kill()
        raise


def _run_kfp(settings: Settings, source: str, folder: Path) -> dict[str, Any]:
    from kfp import local

    from pipelines.train import train_pipeline

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(settings.home / "artifacts"),
        workspace_root=str(folder / "workspace"),
        enable_caching=True,
        # Steps are cached by their inputs; other code is another cache.
        cache_root=str(settings.home / "cache" / "steps" / _code_digest()),
    )
    with (folder / "log.txt").open("a", encoding="utf-8", buffering=1) as log, _quiet(log):
        task = train_pipeline(**pipeline_arguments(settings, source))
        return dict(task.outputs)


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Send what libraries log, from the first word to the last, to a file instead of the terminal."""
    root = logging.getLogger()
    before = root.handlers[:]
    handler = logging.FileHandler(path, encoding="utf-8")
    root.handlers[:] = [handler]
    try:
        yield
    finally:
        root.handlers[:] = before
        handler.close()


@contextlib.contextmanager
def _quiet(log: TextIO) -> Iterator[None]:
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def pipeline_arguments(settings: Settings, source: str) -> dict[str, Any]:
    """Give the pipeline's parameters: the settings' sections, each as plain data."""
    plain = settings.model_dump(mode="json", exclude_none=True)  # KFP knows no null
    return {
        "source": source,
        "store": settings.store_uri,
        "task": str(settings.task),
        "modality": str(settings.modality),
        "data": plain["data"],
        "splitting": plain["split"],
        "searching": plain["search"],
        "training": plain["training"],
        "detection": plain["detection"],
        "evaluating": plain["evaluation"],
        "gate": plain["gate"],
        "serving": plain["serving"],
    }


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


def _failure(events: Path, folder: Path) -> MscflowError:
    """The failing step's own error, rather than kfp's, which names the task alone."""
    read = _read(events)
    for event in read:
        if event["event"] == "failed":
            message = f"step '{event['step']}': {event['message']}"
            if event["error"] == "bug":
                message += f"; this is a bug of mscflow; the log is {folder / 'log.txt'}"
            return StepFailed(message, event["exit_code"])
    running = [event["step"] for event in read if event["event"] == "started"]
    step = running[-1] if running else "the first step"
    return StepFailed(f"step '{step}' ended without a word (killed, or out of memory?); log: {folder / 'log.txt'}", 1)


def _collect(run: PipelineRun, events: Path, outputs: dict[str, Any]) -> None:
    for event in _read(events):
        if event["event"] == "finished":
            run.results[event["step"]] = event["result"]
            run.seconds[event["step"]] = event["seconds"]
    # A step without an event did not run: its result comes from the cache.
    for name, result in outputs.items():
        if name not in run.results:
            run.results[name] = result
            run.seconds[name] = 0.0
            run.cached.append(name)
