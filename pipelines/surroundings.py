"""What is around a pipeline while it runs on this machine: environment, log, events, and how it is interrupted."""

import contextlib
import json
import logging
import os
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TextIO

from components.errors import MscflowError
from components.events import EVENTS_VARIABLE, Observer
from components.settings import Settings


@contextlib.contextmanager
def environment(settings: Settings, folder: Path, about: Mapping[str, str]) -> Iterator[None]:
    """Give the steps' processes what they need to know, and end the tracked run whatever happens."""
    from components import tracking

    uri = settings.mlflow_uri
    parameters = {**about, "preset": settings.preset, "backbone": settings.training.backbone}
    tags = {"mscflow.run": folder.name, "mscflow.modality": settings.modality}
    run_id = tracking.start_parent(uri, "mscflow", folder.name, parameters, tags)
    changes = {
        "MSCFLOW_HOME": str(settings.home),
        "MSCFLOW_TRACKING_URI": uri,
        "MSCFLOW_STORE": settings.store_uri,  # of the audit log, whatever they work on
        EVENTS_VARIABLE: str(folder / "events.jsonl"),
        "MLFLOW_RUN_ID": run_id,
        "TMPDIR": str(folder / "tmp"),  # kfp leaves a folder behind for each task
        # OpenMP's threads spin while they wait for each other; where anything else wants the cores, a fit
        # that spins for long takes three to ten times as long.
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000"),
    }
    if settings.search.storage is not None:
        changes["MSCFLOW_SEARCH__STORAGE"] = settings.search.storage
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
        shutil.rmtree(folder / "tmp", ignore_errors=True)


@contextlib.contextmanager
def observed(events: Path, observe: Observer) -> Iterator[None]:
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
def interruptible() -> Iterator[None]:
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


@contextlib.contextmanager
def logged(path: Path) -> Iterator[None]:
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
def quiet(log: TextIO) -> Iterator[None]:
    """Send what this process prints to a file."""
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
