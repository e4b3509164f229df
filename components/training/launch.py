"""A training in pods of its own: its TrainJob is made, followed, tried again, and gone at the end."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.apiserver import ApiServer
from components.errors import ClusterError, TrainingError
from components.events import emit
from components.lifeline import ended_by_signal
from components.trainer import Launching
from components.training.podlog import PodLog
from components.training.trainjob import MADE_BY, MANAGER, NODE, PLURAL, RUN, SPEC, VERSION, trainjob

if TYPE_CHECKING:
    from components.training.job import Job
    from components.training.stored import StoredTraining

_GONE_SECONDS = 300.0  # within which a TrainJob and its pods are gone after their deletion
_MOST_BACKOFF = 600.0
# The step's own pod has the same limit, and began before: the step says that it was too long before it is ended.
_MOST_AHEAD = 600.0


def launch(job: "Job", launching: Launching) -> None:
    """Do a job in pods of its own and bring what it made to ``job.output``.

    A TrainJob that a killed step left is gone on with; one of another pipeline run is followed, and left to that run.
    However this ends, no other TrainJob stays; the checkpoint does, unless the training is finished, so that doing the
    same job again goes on from it.

    Args:
        job: Whose store, split and tracking server the pods can reach.
        launching: Where its pods run.

    Raises:
        MscflowError: as the training itself does.
        TrainingError: if its TrainJobs found no place, took too long or failed too often.
        ClusterError: if the cluster refuses a TrainJob.
        StorageError: if the store cannot be used.
    """
    from components.training.stored import StoredTraining

    training = StoredTraining.put(job)
    if not training.finished:
        with ended_by_signal():
            manifest = trainjob(training.id, training.uri, job.settings.processes, launching)
            _Launch(job, training, manifest, launching).run()
    if not training.fetch_result(job.output):
        raise TrainingError(f"{training.uri} was finished, and its result was taken away; start the training again")
    if not job.keep:
        training.remove()


def forget(job: "Job") -> None:
    """Remove from the store what a job with ``keep`` left there."""
    from components.storage import open_store
    from components.training.stored import StoredTraining

    StoredTraining(open_store(job.store_uri), job.fingerprint(job.first_weights())).remove()


@dataclass(frozen=True)
class _Launch:
    job: "Job"
    training: "StoredTraining"
    manifest: dict[str, Any]
    launching: Launching

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    def run(self) -> None:
        server = ApiServer(self.launching.namespace)
        limit, reason = self.launching.train_timeout, ""
        ends = time.monotonic() + limit - min(_MOST_AHEAD, limit / 10)
        for attempt in range(self.launching.retries + 1):
            if attempt:
                emit("note", message=f"TrainJob {self.name} failed ({reason}); it is tried again from its checkpoint")
                time.sleep(min(self.launching.backoff * 2 ** (attempt - 1), _MOST_BACKOFF))
                # Another run that did the same has taken its result, and the job with it.
                self.training.put(self.job)
            reason = self._attempt(server, ends)
            if self.training.finished:
                return
            if (told := self.training.failure) is not None:
                raise told
        raise TrainingError(
            f"TrainJob {self.name} failed {self.launching.retries + 1} times, at last as {reason}; mend that, or raise "
            "trainer.retries, and start the training again: it goes on from its checkpoint"
        )

    def _attempt(self, server: ApiServer, ends: float) -> str:
        """Make a TrainJob, follow it to its end and take it away; give why it failed, if it did.

        One of another run is followed alone: that run takes it away.
        """
        begun = self._begin(server)
        uid, of_another = _uid(begun), self._is_of_another_run(begun)
        try:
            reason = self._follow(server, uid, ends)
        finally:
            if not of_another:
                server.delete(PLURAL, VERSION, self.name, uid)
        if of_another:
            return reason
        self._until(lambda: _uid(self._look(server)) != uid)
        return reason

    def _begin(self, server: ApiServer) -> dict[str, Any]:
        """Create the TrainJob, or find the one that a killed step left or another run follows."""
        begun: list[dict[str, Any]] = []

        def begin() -> bool:
            made = server.create(PLURAL, self.manifest)
            found = made or self._look(server)
            if found is None:
                return False
            if made is None and not self._is_to_be_gone_on_with(found):
                server.delete(PLURAL, VERSION, self.name, _uid(found))
                return False
            begun.append(found)
            return True

        self._until(begin)
        return begun[0]

    def _is_to_be_gone_on_with(self, found: dict[str, Any]) -> bool:
        metadata = found["metadata"]
        if (metadata.get("labels") or {}).get(MANAGER) != MADE_BY:
            raise ClusterError(
                f"TrainJob {self.name} in namespace '{self.launching.namespace}' is in the way, and was not made by "
                "mscflow; delete it"
            )
        if "deletionTimestamp" in metadata or _condition(found, "Failed"):
            return False
        if self._is_of_another_run(found):
            # One that has completed is looked at by its own run, or left by one that is no more.
            if _condition(found, "Complete"):
                return False
            run = metadata["labels"][RUN]
            emit("note", message=f"TrainJob {self.name} does the same training for run {run}; it is waited for")
            return True
        if (metadata.get("annotations") or {}).get(SPEC) != self.manifest["metadata"]["annotations"][SPEC]:
            return False
        emit("note", message=f"TrainJob {self.name}, which an earlier step left, is gone on with")
        return True

    def _is_of_another_run(self, found: dict[str, Any]) -> bool:
        run = (found["metadata"].get("labels") or {}).get(RUN)
        return run is not None and run != self.manifest["metadata"]["labels"].get(RUN)

    def _follow(self, server: ApiServer, uid: str, ends: float) -> str:
        log, running = PodLog(server, self.name), False
        deadline = time.monotonic() + self.launching.start_timeout
        while True:
            found = self._look(server)
            if found is None or _uid(found) != uid:
                return "somebody deleted it"
            log.pass_on()
            if _condition(found, "Complete"):
                return "it completed without a result"
            if (failed := _condition(found, "Failed")) is not None:
                return self._why(failed, log)
            running = running or _has_run(found)
            if not running and time.monotonic() > deadline:
                raise self._no_place(found, log)
            if time.monotonic() > ends:
                raise self._too_long()
            time.sleep(self.launching.interval)

    def _why(self, failed: dict[str, Any], log: PodLog) -> str:
        if failed.get("reason") == "DeadlineExceeded":
            raise self._too_long()
        said = f"; its first pod ended with: {log.last}" if log.last else ""
        return f"{failed.get('reason', 'Failed')}: {failed.get('message', 'no reason given')}{said}"

    def _too_long(self) -> TrainingError:
        return TrainingError(
            f"TrainJob {self.name} took longer than cluster.train_timeout, {self.launching.train_timeout} s; raise "
            "that and start the training again: it goes on from its checkpoint"
        )

    def _no_place(self, found: dict[str, Any], log: PodLog) -> TrainingError:
        suspended = _condition(found, "Suspended")
        why = f"it is suspended, {suspended.get('message', '')}" if suspended else log.waiting()
        return TrainingError(
            f"TrainJob {self.name} had no pod ready within trainer.start_timeout, {self.launching.start_timeout} s"
            f"{f' ({why})' if why else ''}; ask for less, make room, or raise that"
        )

    def _look(self, server: ApiServer) -> dict[str, Any] | None:
        return server.get(PLURAL, VERSION, self.name)

    def _until(self, done: Any) -> None:
        deadline = time.monotonic() + _GONE_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"TrainJob {self.name} in namespace '{self.launching.namespace}' was deleted and does not go away; "
                    "see its finalizers and whether Kubeflow Trainer runs"
                )
            time.sleep(min(1.0, self.launching.interval))


def _uid(found: dict[str, Any] | None) -> str:
    return "" if found is None else str(found["metadata"]["uid"])


def _condition(found: dict[str, Any], kind: str) -> dict[str, Any] | None:
    for condition in found.get("status", {}).get("conditions") or ():
        if condition["type"] == kind and condition["status"] == "True":
            return dict(condition)
    return None


def _has_run(found: dict[str, Any]) -> bool:
    jobs = [job for job in found.get("status", {}).get("jobsStatus") or () if job["name"] == NODE]
    return any(job.get(count) for job in jobs for count in ("ready", "succeeded", "failed"))
