"""Watching a place for new batches, and retraining on each: once, whoever else watches, and whoever is killed."""

import contextlib
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from components.audit.entry import this_actor
from components.batches import steps
from components.batches.arrival import identify, look_at
from components.batches.lease import Lease, TurnLost
from components.batches.ledger import Ledger
from components.batches.record import RUNNING
from components.errors import ConflictError, InputError, MscflowError
from components.events import Observer
from components.settings import Settings
from components.storage import open_store
from pipelines.arguments import model_name
from pipelines.local import PipelineRun, run_retrain_pipeline

Found = dict[str, Any]
Tell = Callable[[dict[str, Any]], None]
Runner = Callable[[Settings, str, str, str, str, Observer], PipelineRun]


class Work(NamedTuple):
    """What is to be worked on, and for whom.

    Attributes:
        settings: Of every run.
        lineage: That batches are added to.
        watched: Folder or ``s3://`` prefix whose sub-folders are batches; empty where ``batch`` is given.
        batch: Folder or prefix of one batch, instead.
        owner: Who works; no other process has the same.
    """

    settings: Settings
    lineage: str
    watched: str
    batch: str
    owner: str


def new_owner() -> str:
    """Name this process as an owner of batches."""
    return f"{this_actor()} {secrets.token_hex(3)}"


def lineage_of(settings: Settings) -> str:
    """Give the lineage that new batches belong to: the one that is set, else that of the champion's data.

    Raises:
        InputError: if neither tells.
        RegistryError: if MLflow does not answer or refuses.
    """
    from components.registry.lineage import champion_lineage

    name = model_name(settings)
    lineage = settings.data.ref or champion_lineage(name, settings.mlflow_uri, settings.home)
    if lineage is None:
        raise InputError(f"there is no champion of {name} to tell which lineage a batch belongs to; give --ref LINEAGE")
    return lineage


def look(work: Work) -> Found:
    """Tell what is due; see ``components.batches.steps.peek``."""
    settings = work.settings
    return steps.peek(
        work.watched,
        work.batch or None,
        settings.store_uri,
        work.lineage,
        settings.home,
        work.owner,
        settings.watch.attempts,
    )


def before(work: Work) -> dict[str, Any] | None:
    """Tell what came of the named batch when it was worked on, None if it was not, or is being worked on.

    Raises:
        DataError: if it cannot be used.
    """
    batch_id = _identify(work)
    record = _ledger(work).find(batch_id)
    if record is None or record.state == RUNNING:
        return None
    return {"batch": record.name, "id": batch_id, "lineage": work.lineage, "before": True, **record.outcome}


def reopen(work: Work) -> None:
    """Let the named batch be worked on again, if it was before.

    Raises:
        ConflictError: if somebody works on it.
    """
    batch_id, ledger = _identify(work), _ledger(work)
    if ledger.find(batch_id) is not None:
        ledger.reopen(batch_id, work.owner)


def retrain(work: Work, observe: Observer, run: Runner = run_retrain_pipeline) -> PipelineRun:
    """Run the pipeline on what is due, and keep the turn meanwhile.

    Args:
        work: What is to be worked on.
        observe: Called, from another thread, with each event of each step.
        run: What runs the pipeline.

    Returns:
        The run; its ``poll`` has found nothing if another owner was faster.

    Raises:
        StepFailed: with the failing step's own message and exit code; the batch is concluded as failed.
        ConflictError: if another owner took the batch over, as this process was silent for longer than the lease.
        KeyboardInterrupt: after Ctrl-C; the batch is due for everybody at once.
    """
    settings, ledger = work.settings, _ledger(work)
    try:
        with Lease(ledger, work.owner, settings.watch.lease) as lease:

            def both(event: dict[str, Any]) -> None:
                lease.observe(event)
                observe(event)

            return run(settings, work.watched, work.batch, work.lineage, work.owner, both)
    except TurnLost as error:
        raise ConflictError(str(error)) from error
    except KeyboardInterrupt:
        # The lease runs out by itself where the store cannot be told.
        with contextlib.suppress(MscflowError):
            ledger.release(work.owner)
        raise


class Watcher:
    """Looks for batches again and again, and retrains on those that are due.

    Args:
        work: What is watched, and for whom.
        tell: Called with what a person or a machine wants to know: ``event`` is one of ``waiting`` (``batches``),
            ``idle`` (``why``), ``begun`` (``batch``), ``ended`` (``batch`` and the outcome), ``failed`` (``batch``,
            ``error``, ``exit_code``) and ``trouble`` (``error``). What has not changed is told once.
        retrain: Runs the pipeline on what is due; see ``retrain``.
    """

    def __init__(self, work: Work, tell: Tell, retrain: Callable[[Work], PipelineRun]) -> None:
        self._work, self._retrain = work, retrain
        self._tell = tell
        self._told: dict[str, Any] = {}

    def once(self) -> None:
        """Work on all that is due now.

        Raises:
            MscflowError: of the first run that failed, or if the place cannot be looked at.
        """
        while (found := self._look())["found"]:
            self._run(found)

    def forever(self) -> None:
        """Work on what is due whenever it comes; only the first look may fail.

        Raises:
            MscflowError: if the place cannot be looked at from the beginning.
        """
        found = self._look()
        while True:
            if not (found["found"] and self._succeeded(found)):
                time.sleep(self._work.settings.watch.interval)
            found = self._looked()

    def _succeeded(self, found: Found) -> bool:
        try:
            self._run(found)
        except MscflowError:
            return False
        return True

    def _looked(self) -> Found:
        try:
            found = self._look()
        except MscflowError as error:
            self._tell_news("trouble", error=str(error))
            return {"found": False}
        self._told.pop("trouble", None)
        return found

    def _look(self) -> Found:
        found = look(self._work)
        waiting = {each["name"]: each["reason"] for each in found["waiting"]}
        self._tell_news("waiting", batches=waiting)
        self._tell_news("idle", why="" if found["found"] else found["why"])
        return found

    def _run(self, found: Found) -> None:
        self._tell({"event": "begun", "batch": found["batch"]})
        try:
            done = self._retrain(self._work)
        except MscflowError as error:
            self._tell({"event": "failed", "batch": found["batch"], "error": str(error), "exit_code": error.exit_code})
            raise
        if "conclude" in done.results:
            batch = done.results["poll"]["batch"]
            self._tell({"event": "ended", "batch": batch, **done.results["conclude"], "run": str(done.folder)})

    def _tell_news(self, event: str, **news: Any) -> None:
        before = self._told.get(event, {key: type(value)() for key, value in news.items()})
        self._told[event] = news
        if news != before and any(news.values()):
            self._tell({"event": event, **news})


def _ledger(work: Work) -> Ledger:
    return Ledger(open_store(work.settings.store_uri), work.lineage)


def _identify(work: Work) -> str:
    return identify(look_at(work.batch), work.settings.home / "cache")
