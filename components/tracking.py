"""Runs in MLflow: one a pipeline run, and one nested in it for each trial and fit.

MLflow lies in a sqlite file by default, with artifacts in the folder ``mlartifacts`` beside it, or
behind a server. Importing it takes seconds, so that this module does it at the first use.
"""

import errno
import fcntl
import gc
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from components.errors import RegistryError, RegistryUnavailable, SettingsError, StorageError
from components.patience import RUN_VARIABLE, in_a_run, patience
from components.provenance import code_version, environment
from components.settings import sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_ID_VARIABLE = "MLFLOW_RUN_ID"  # KFP's own MLflow tracking sets it too
RUN_TAG = "mscflow.run"
EXPERIMENT = "mscflow"
ARTIFACTS_FOLDER = "mlartifacts"

Status = Literal["FINISHED", "FAILED", "KILLED"]

# Read by MLflow at its import and at each call; what the user has set stays.
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where a command's one JSON object goes
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
# Of calls that are not worth waiting for: the first one, which tells whether there is a server, and the last.
_HASTY = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}

_DISK_ERRORS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_MOST_RETRIES = 10  # MLflow's limit
_LOGGED_AT_ONCE = 100  # MLflow's limit on the params and tags of one request


@dataclass(frozen=True)
class Run:
    """One MLflow run that is open for writing."""

    uri: str
    id: str

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics of one step, such as an epoch, in one request."""
        with calling(self.uri, f"logging metrics of run {self.id}") as opened:
            from mlflow.entities import Metric

            now = time.time_ns() // 1_000_000
            opened.log_batch(
                self.id, metrics=[Metric(name, float(value), now, step) for name, value in metrics.items()]
            )

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; nested mappings are flattened with dots."""
        with calling(self.uri, f"logging parameters of run {self.id}") as opened:
            from mlflow.entities import Param

            batch = [Param(name, str(value)) for name, value in _flattened(params).items()]
            for start in range(0, len(batch), _LOGGED_AT_ONCE):
                opened.log_batch(self.id, params=batch[start : start + _LOGGED_AT_ONCE])

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags, replacing those of the same name."""
        with calling(self.uri, f"tagging run {self.id}") as opened:
            from mlflow.entities import RunTag

            opened.log_batch(self.id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def log_files(self, folder: Path, path: str | None = None) -> None:
        """Upload a folder's files as artifacts, below ``path`` if given."""
        with calling(self.uri, f"uploading {folder} to run {self.id}") as opened:
            opened.log_artifacts(self.id, str(folder), path)


@contextmanager
def tracked_run(
    uri: str,
    name: str,
    *,
    kind: str,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    parent: str | None = None,
    experiment: str = EXPERIMENT,
) -> Iterator[Run]:
    """Open a run, and end it as FINISHED, FAILED on an error, or KILLED on an interrupt.

    Args:
        uri: The tracking URI, ``Settings.mlflow_uri``.
        name: What people see.
        kind: What it is a run of, such as ``pipeline``, ``trial``, ``training``; kept as a tag.
        params: Parameters to log at the start.
        tags: Tags to set at the start, such as the data version.
        parent: Run to nest it in; by default that of the whole pipeline run, see ``parent_run``.
        experiment: Where a run without a parent belongs.

    Raises:
        RegistryError: if the tracking server does not answer (``RegistryUnavailable``), or knows no such parent.
    """
    parent = parent or parent_run(uri)
    run = _create_run(uri, name, experiment, {"kind": kind, **(tags or {})}, parent)
    try:
        if params:
            run.log_params(params)
        yield run
    except BaseException as error:
        status: Status = "FAILED" if isinstance(error, Exception) else "KILLED"
        # What ended the run matters more than a server that cannot be told.
        with suppress(RegistryError, StorageError):
            end_parent(uri, run.id, status)
        raise
    end_parent(uri, run.id, "FINISHED")


def start_parent(
    uri: str, experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, Any] | None = None
) -> str:
    """Start the run of a whole pipeline run and give its id, to be handed on as ``MLFLOW_RUN_ID``.

    Raises:
        RegistryUnavailable: if the tracking server does not answer.
    """
    run = _create_run(uri, name, experiment, {"kind": "pipeline", **(tags or {})}, None)
    run.log_params(params)
    return run.id


def parent_run(uri: str) -> str | None:
    """Give the id of the tracked run that this step's pipeline run has, None outside of one.

    On one machine ``MLFLOW_RUN_ID`` tells it. Steps that run as containers cannot hand an id from one to the next
    without losing what is cached by their inputs; they are told the name of the pipeline run, ``MSCFLOW_RUN``.

    Raises:
        RegistryUnavailable: if the tracking server does not answer.
    """
    name = os.environ.get(RUN_VARIABLE)
    return os.environ.get(RUN_ID_VARIABLE) or (named_parent(uri, name) if name else None)


@cache
def named_parent(uri: str, name: str) -> str:
    """Give the id of the run of the pipeline run with this name; whichever step asks first starts it.

    Of several that start it at once, the first one's stays.

    Raises:
        SettingsError: if this cannot be the name of a run.
        RegistryUnavailable: if the tracking server does not answer.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{RUN_VARIABLE} is '{name}'; give the name of a run: letters, digits, '.', '_' and '-'")
    found = _parents(uri, name)
    if found:
        return found[0]
    own = start_parent(uri, EXPERIMENT, name, {}, {RUN_TAG: name})
    first = _parents(uri, name)[0]
    if first != own:
        with calling(uri, f"deleting run {own}, as {first} was faster") as opened:
            opened.delete_run(own)
    return first


def _parents(uri: str, name: str) -> list[str]:
    with calling(uri, f"looking for the run of '{name}'") as opened:
        condition = f"tags.`{RUN_TAG}` = '{name}' and tags.kind = 'pipeline'"
        runs = opened.search_runs([_experiment_id(opened, uri, EXPERIMENT)], condition)
    return [run.info.run_id for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))]


def end_parent(uri: str, run_id: str, status: Status) -> None:
    """End a run; one that failed is not worth waiting for a server that is away."""
    hasty = {} if status == "FINISHED" else _HASTY
    with _environment(hasty), calling(uri, f"ending run {run_id}") as opened:
        opened.set_terminated(run_id, status)


def _create_run(uri: str, name: str, experiment: str, tags: dict[str, Any], parent: str | None) -> Run:
    own = {"code_version": code_version(), **{f"env.{key}": value for key, value in environment().items()}, **tags}
    with calling(uri, f"starting run '{name}'") as opened:
        if parent is not None:
            own["mlflow.parentRunId"] = parent
            experiment_id = opened.get_run(parent).info.experiment_id
        else:
            experiment_id = _experiment_id(opened, uri, experiment)
        labels = {key: str(value) for key, value in own.items()}
        created = opened.create_run(experiment_id, run_name=name, tags=labels)
    return Run(uri, created.info.run_id)


def _experiment_id(opened: "MlflowClient", uri: str, name: str) -> str:
    found = opened.get_experiment_by_name(name)
    if found is None:
        from mlflow.exceptions import MlflowException

        database = sqlite_path(uri)
        location = (database.parent / ARTIFACTS_FOLDER / name).as_uri() if database else None
        try:
            return str(opened.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process may have been faster.
            found = opened.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)


def _flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flattened(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@cache
def client(uri: str) -> "MlflowClient":
    """Give the ``MlflowClient`` of a tracking URI, once it is known to answer.

    Raises:
        RegistryUnavailable: if it does not.
        StorageError: if the sqlite file cannot be written.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    factor, retries = _pauses(patience())
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", str(factor))
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(retries))
    with translated(uri, "opening it", RegistryUnavailable), _uncollected():
        database = sqlite_path(uri)
        if database is not None:
            _prepare(database)
        from mlflow.tracking import MlflowClient

        # Writers of other processes are waited for longer than sqlite's 5 s.
        patient = f"{uri}?timeout=60" if database is not None and "?" not in uri else uri
        opened = MlflowClient(tracking_uri=patient, registry_uri=patient)
        with _environment({} if in_a_run() else _HASTY):
            opened.search_experiments(max_results=1)
    return opened


def _pauses(seconds: float) -> tuple[int, int]:
    """Give the factor and the number of retries that last about so long.

    MLflow pauses for 0, 2, 4, 8 times the factor and so on: five retries last for 30 times the factor.
    """
    factor = min(max(round(seconds / 30), 1), 100)
    return factor, next(
        (count for count in range(1, _MOST_RETRIES) if factor * (2**count - 2) >= seconds), _MOST_RETRIES
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    # MLflow's import makes a million objects that stay; looking for garbage among them takes an eighth of its time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def sqlite_path(uri: str) -> Path | None:
    """Give the file of a ``sqlite:///`` URI, None for other URIs."""
    if not uri.startswith("sqlite:"):
        return None
    path = unquote(uri.partition(":///")[2].partition("?")[0])
    if not path or path.startswith(":"):
        raise RegistryUnavailable(f"tracking URI '{uri}' names no file; use sqlite:////absolute/path/mlflow.db")
    return Path(path).absolute()


def _prepare(database: Path) -> None:
    """Make MLflow's tables, once, and so that nobody ever sees them half made."""
    if database.exists() and database.stat().st_size > 0:
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(database.with_name(f"{database.name}.lock")):
        if database.exists() and database.stat().st_size > 0:
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        fresh = database.with_name(f".{database.name}.{os.getpid()}.new")
        fresh.unlink(missing_ok=True)
        make: Any = SqlAlchemyStore  # which carries no types
        store = make(sqlite_uri(fresh), (database.parent / ARTIFACTS_FOLDER).as_uri())
        store.engine.dispose()
        fresh.replace(database)


@contextmanager
def lock_file(path: Path) -> Iterator[None]:
    """Hold a lock that other processes of this machine wait for; a killed holder gives it up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def calling(uri: str, doing: str) -> "Iterator[MlflowClient]":
    """Give the client for a few calls whose errors become one clear sentence; see ``translated``."""
    with translated(uri, doing):
        yield client(uri)


@contextmanager
def translated(uri: str, doing: str, otherwise: type[RegistryError] = RegistryError) -> Iterator[None]:
    """Turn what MLflow and the libraries below it raise into one clear sentence.

    Raises:
        StorageError: for a disk that is full or read-only.
        RegistryUnavailable: for a server that does not answer.
        RegistryError: for everything else, or the kind of it that is given.
    """
    try:
        yield
    except Exception as error:
        if not _is_foreign(error):
            raise
        first = _first_line(error)
        if _is_of_the_disk(error):
            raise StorageError(
                f"MLflow at {_public(uri)}: {doing} failed: {first}; mend the disk or choose another home"
            ) from error
        if _never_answered(error):
            raise RegistryUnavailable(
                f"the MLflow server {_public(uri)} does not answer ({doing}); start it, or unset MLFLOW_TRACKING_URI "
                "to use the local registry"
            ) from error
        raise otherwise(f"MLflow at {_public(uri)}: {doing} failed: {first}") from error


def _is_foreign(error: Exception) -> bool:
    # Only what has been imported can have been raised.
    families = {
        "mlflow.exceptions": ("MlflowException",),
        "requests.exceptions": ("RequestException",),
        "sqlalchemy.exc": ("SQLAlchemyError",),
        "botocore.exceptions": ("BotoCoreError", "ClientError"),
        "boto3.exceptions": ("Boto3Error",),
    }
    found = [
        getattr(sys.modules[module], name)
        for module, names in families.items()
        if module in sys.modules
        for name in names
    ]
    return isinstance(error, (OSError, *found))


def _is_of_the_disk(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _DISK_ERRORS
    return any(sign in str(error) for sign in ("readonly database", "disk is full", "unable to open database"))


def _never_answered(error: Exception) -> bool:
    text = str(error)
    return any(sign in text for sign in ("Max retries exceeded", "Connection refused", "timed out", "Timeout"))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _public(uri: str) -> str:
    parts = urlsplit(uri)
    return uri.replace(f"{parts.netloc}", parts.netloc.rpartition("@")[2]) if "@" in parts.netloc else uri
