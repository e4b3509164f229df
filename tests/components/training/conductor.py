"""The part of Kubeflow Trainer in tests: it sees TrainJobs in an API server, acts on them and writes their status."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx

from components.training.__main__ import main
from tests.kubernetes import CrdServer

GROUP = "/apis/trainer.kubeflow.org/v1alpha1/namespaces"

Manifest = dict[str, Any]
Act = Callable[["Conductor", Manifest], None]


class Conductor(threading.Thread):
    """Does with each TrainJob of a namespace what the next act says; what is deleted goes, as its pods would have.

    Args:
        server: Where the TrainJobs are.
        namespace: That no other test uses.
        acts: What becomes of the first TrainJob, of the second, ...; the last also of those that follow.
    """

    def __init__(self, server: CrdServer, namespace: str, acts: Sequence[Act]) -> None:
        super().__init__(daemon=True)
        self.path, self.acts = f"{GROUP}/{namespace}/trainjobs", acts
        self.seen: list[Manifest] = []
        self._client, self._over = server.client(), threading.Event()

    def __enter__(self) -> "Conductor":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(timeout=30)
        for job in self.jobs():
            self.delete(job)
            self._let_go(job)
        self._client.close()

    def run(self) -> None:
        while not self._over.wait(0.02):
            # An object may go between the look at it and the deed.
            with suppress(httpx.HTTPStatusError):
                for job in self.jobs():
                    self._see(job)

    def jobs(self) -> list[Manifest]:
        """Give the TrainJobs that there are."""
        return list(self._client.get(self.path).raise_for_status().json()["items"])

    def create(self, manifest: Manifest) -> None:
        """Put a TrainJob there."""
        self._client.post(self.path, json=manifest).raise_for_status()

    def delete(self, job: Manifest) -> None:
        """Delete a TrainJob."""
        self._client.delete(f"{self.path}/{job['metadata']['name']}").raise_for_status()

    def tell(self, job: Manifest, kind: str, reason: str, message: str = "told by the test") -> None:
        """Write a condition that is true."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": now}
        self._write(job, {"conditions": [condition]})

    def count(self, job: Manifest, **counts: int) -> None:
        """Write how many of the pods' jobs are active, ready, failed or succeeded."""
        every = dict.fromkeys(("active", "failed", "ready", "succeeded", "suspended"), 0)
        self._write(job, {"jobsStatus": [{"name": "node", **every, **counts}]})

    def _write(self, job: Manifest, status: Manifest) -> None:
        self._client.patch(
            f"{self.path}/{job['metadata']['name']}/status",
            headers={"Content-Type": "application/merge-patch+json"},
            json={"status": status},
        ).raise_for_status()

    def _let_go(self, job: Manifest) -> None:
        self._client.patch(
            f"{self.path}/{job['metadata']['name']}",
            headers={"Content-Type": "application/merge-patch+json"},
            json={"metadata": {"finalizers": None}},
        )

    def _see(self, job: Manifest) -> None:
        metadata = job["metadata"]
        if "deletionTimestamp" in metadata:
            self._let_go(job)
        elif metadata["uid"] not in [each["metadata"]["uid"] for each in self.seen]:
            self.seen.append(job)
            self.acts[min(len(self.seen), len(self.acts)) - 1](self, job)


def train(conductor: Conductor, job: Manifest) -> None:
    """Do what the TrainJob's pods would do, and tell how it ended."""
    conductor.count(job, active=1, ready=1)
    (argument,) = [each for each in job["spec"]["trainer"]["args"] if each.startswith("--job=")]
    if main(["--job", argument.removeprefix("--job=")]) == 0:
        conductor.tell(job, "Complete", "JobsCompleted")
    else:
        fail(conductor, job)


def fail(conductor: Conductor, job: Manifest) -> None:
    """End a TrainJob as one whose pods failed too often."""
    conductor.tell(job, "Failed", "JobsFailed", "jobset failed")


def expire(conductor: Conductor, job: Manifest) -> None:
    """End a TrainJob as one that took longer than it may."""
    conductor.tell(job, "Failed", "DeadlineExceeded")


def vanish(conductor: Conductor, job: Manifest) -> None:
    """Delete a TrainJob behind the back of whoever made it."""
    conductor.count(job, active=1, ready=1)
    conductor.delete(job)


def wait(_conductor: Conductor, _job: Manifest) -> None:
    """Leave a TrainJob as one whose pods find no place."""


def until(done: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for something; AssertionError if it does not come."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
