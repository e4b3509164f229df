"""The two ways of bringing a release into service on a cluster; which one works depends on KServe's mode.

Knative splits requests between revisions: a new release gets a few percent first. Plain Deployments cannot: there a
second InferenceService is asked first, and what was asked is then put in the place of what serves, pod by pod.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar

from components.apiserver import Manifest
from components.deployment.held import Held
from components.deployment.observed import Observed
from components.deployment.services import InferenceServices, Mode
from components.deployment.trial import Tally, Trial
from components.errors import DeploymentError, RolloutLost
from components.events import emit
from components.rollout import Rolling

# Of an InferenceService that is only asked by its rollout.
TRIAL_SUFFIX = "-trial"
# Looks in a row that a failure must stand, as a pod may fall once and get up.
_FAILED_LOOKS = 5
# Answers in a row, times the pods that there may be, that must come from the new release once it has all requests.
_ANSWERS_OF_A_POD = 10

# Renders the InferenceService of a release that gets so many percent of the requests; None for all.
Render = Callable[[str, int | None], Manifest]


class Way(ABC):
    """What both ways have in common.

    Args:
        services: The API server.
        held: The InferenceService.
        rolling: How it is done.
        render: Gives the InferenceService of a release.
        trial: Asks for the model that is rolled out.
    """

    knative: ClassVar[bool]

    def __init__(self, services: InferenceServices, held: Held, rolling: Rolling, render: Render, trial: Trial) -> None:
        self._services = services
        self._held = held
        self._rolling = rolling
        self._render = render
        self._trial = trial
        self._failed = 0

    def bring(self, release: str, before: str | None) -> str:
        """Bring a release into service; give the URL at which it answers.

        Args:
            release: Its URI.
            before: That which serves, and serves again if this goes wrong; None if there is none.

        Raises:
            ClusterError: if the API server refuses.
            DeploymentError: if it cannot serve; what served before does, or is named as what does not.
            RolloutLost: if somebody else changed or deleted the InferenceService: it is left alone.
        """
        try:
            if before not in (None, release):
                self._try_out(release)
            return self._switch(release)
        except RolloutLost:
            raise
        except BaseException as error:
            self._undo(before, error)
            raise

    @abstractmethod
    def _try_out(self, release: str) -> None:
        """Ask a release before it gets all requests."""

    @abstractmethod
    def _restore(self, before: str) -> None:
        """Have what served before serve again."""

    @abstractmethod
    def _has_all(self, found: Observed) -> bool:
        """Whether the newest specification gets all requests, as far as the controller tells."""

    def _described(self, before: str, percent: int | None) -> Manifest:
        """Give what served as it was, image and all; rendered only where a killed rollout left something else."""
        as_found = self._held.as_found(percent) if self._held.release == before else None
        return as_found or self._render(before, percent)

    def _switch(self, release: str) -> str:
        """Give a release all requests; give the URL."""
        self._held.put(self._render(release, None))
        url = self._await(self._held, self._has_all)
        self._answers_alone(url)
        return url

    def _answers_alone(self, url: str) -> None:
        """Wait until nobody but the new release answers: pods of the old one end one by one."""
        deadline, in_a_row, tally = time.monotonic() + self._rolling.timeout, 0, Tally()
        enough = _ANSWERS_OF_A_POD * max(self._rolling.max_replicas, self._rolling.min_replicas)
        while in_a_row < enough:
            in_a_row = in_a_row + 1 if self._trial.ask(url, tally) == self._trial.digest else 0
            if in_a_row == 0:
                self._check(self._held, self._held.look())
                time.sleep(min(self._rolling.interval, 0.5))
            if time.monotonic() > deadline:
                last = f", such as: {tally.failures[-1]}" if tally.failures else ""
                raise DeploymentError(
                    f"{url} was not answered by the new release alone within {self._rolling.timeout:g} s: it "
                    f"gave {len(tally.of(self._trial.digest))} of {tally.requests} answers, {len(tally.failures)} "
                    f"failed{last}"
                )
        if not self._trial.joins:
            self._trial.judge(tally)

    def _undo(self, before: str | None, error: BaseException) -> None:
        """Bring back what served; tell where even that fails."""
        if not self._held.written and self._held.release in (None, before):
            return
        emit("undoing", service=self._held.name, because=str(error) or type(error).__name__)
        try:
            if before is not None:
                self._restore(before)
            elif not self._held.existed:
                self._held.delete()
        except RolloutLost:
            return
        except Exception as second:
            raise DeploymentError(
                f"{error}; and what served before could not be brought back: {second}; see what the InferenceService "
                f"{self._held.name} says of itself"
            ) from second

    def _await(self, held: Held, done: Callable[[Observed], bool]) -> str:
        """Look until the controller says what it is to say; give the URL.

        Raises:
            DeploymentError: if the pods fail, or it takes too long.
        """
        deadline, self._failed = time.monotonic() + self._rolling.timeout, 0
        while True:
            found = held.look()
            self._check(held, found)
            url = found.inside if self._rolling.address == "inside" else found.outside
            if url and done(found):
                return url
            if time.monotonic() > deadline:
                told = found.failure or found.problem or "its status tells no reason; does KServe's controller run?"
                raise DeploymentError(f"{held.name} was not ready within {self._rolling.timeout:g} s: {told}")
            time.sleep(self._rolling.interval)

    def _check(self, held: Held, found: Observed) -> None:
        """Give up where the pods fail for good, or KServe runs them otherwise than it was told."""
        runs = Mode.of(found.mode or "")
        if runs is not None and runs.knative != self.knative:
            raise DeploymentError(
                f"{held.name} was to run in mode {Mode.named(self.knative).spelling} and runs in mode {found.mode}; "
                "set rollout.mode to what the cluster has"
            )
        self._failed = self._failed + 1 if found.failure and found.failure != held.before.failure else 0
        if self._failed >= _FAILED_LOOKS:
            raise DeploymentError(f"{held.name} does not come up: {found.failure}")


class Canary(Way):
    """Knative's way: a new revision gets a growing share of the requests."""

    knative = True

    def _try_out(self, release: str) -> None:
        if self._trial.joins:
            return  # nobody can ask for it yet, and who serves now would refuse
        if self._held.release == release and self._held.share in (None, 100):
            return  # a rollout that was killed had tried it, and KServe takes no requests from what has had them all
        # A rollout that was killed may have made its revision already.
        revision = None if self._held.release == release else self._held.look().created
        for percent in self._rolling.canary:
            self._held.put(self._render(release, percent))
            url = self._await(self._held, partial(_has_share, percent=percent, unless=revision))
            tally = self._trial.step(url, percent, self._held.look)
            emit("canary", percent=percent, requests=tally.requests, answers=len(tally.of(self._trial.digest)))

    def _has_all(self, found: Observed) -> bool:
        return found.ready and found.percent == 100

    def _restore(self, before: str) -> None:
        """Take all requests from the new revision at once, unless it has them all; then describe the old one again.

        Without the first, the new one would get all of them until the old one, described again, is ready.
        """
        now = self._held.look()
        if now.rolled_out is not None and now.created != now.rolled_out:
            self._held.put(self._described(before, 0))
            self._held.before = now  # its failure is told already
            self._await(self._held, partial(_has_share, percent=0, unless=now.created))
        self._held.put(self._described(before, None))


def _has_share(found: Observed, percent: int, unless: str | None) -> bool:
    """Whether a revision newer than ``unless`` is ready and has its share: what was only written is not it."""
    return found.ready and found.created != unless and found.percent == percent


class Trialled(Way):
    """The way of plain Deployments: a second InferenceService is asked, and what it serves is then put in the place."""

    knative = False

    def _try_out(self, release: str) -> None:
        if not self._rolling.canary:
            return
        with self._second(release) as second:
            url = self._await(second, lambda found: found.ready)
            tally = self._trial.step(url, 100, second.look)
        emit("trial", service=second.name, requests=tally.requests)

    def _has_all(self, found: Observed) -> bool:
        return found.ready  # of any pods: who answers, tells which

    def _restore(self, before: str) -> None:
        self._held.put(self._described(before, None))

    @contextmanager
    def _second(self, release: str) -> Iterator[Held]:
        """Make an InferenceService of one pod, which is gone in the end; one that a killed rollout left, too."""
        manifest = self._render(release, None)
        name = manifest["metadata"]["name"] + TRIAL_SUFFIX
        self._services.remove(name)
        manifest["metadata"]["name"] = name
        manifest["spec"]["predictor"] |= {"minReplicas": 1, "maxReplicas": 1}
        second = Held(self._services, name, None)
        try:
            second.put(manifest)
            yield second
        finally:
            second.delete()
