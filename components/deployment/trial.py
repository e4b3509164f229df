"""Asking an endpoint on a cluster about an image with a known answer, again and again, and judging what came back."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from components.bundle import KNOWN_IMAGE_FILE, read_any_bundle
from components.deployment.check import ModelPrediction, is_known, told
from components.endpoint.client import Client
from components.endpoint.files import WantedModel
from components.endpoint.prediction import CulturePrediction
from components.errors import DeploymentError, MscflowError, UnfitModel
from components.rollout import Rolling

# Seconds by which an answer may always be slower: below, a busy node or network may be why.
_JITTER = 0.25
_CHANCE = 1e-6
ANSWER_SECONDS = 30.0


@dataclass
class Tally:
    """What a trial's requests came to.

    Attributes:
        seconds: That each answer took, by the digest of the version that gave it.
        failures: What was said to the others.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """All of them."""
        return len(self.failures) + sum(len(each) for each in self.seconds.values())

    def of(self, digest: str) -> list[float]:
        """Seconds of the answers of one version."""
        return self.seconds.get(digest, [])


class Trial:
    """Requests for one model of an endpoint, one after another, each on a connection of its own.

    Args:
        rolling: What is asked of the answers.
        name: The model.
        wanted: The version that is tried; its bundle lies here.
        joins: Whether no version of the model was served before, so that what serves refuses requests for it.

    Attributes:
        digest: Of the version that is tried.
        joins: As above.
    """

    def __init__(self, rolling: Rolling, name: str, wanted: WantedModel, *, joins: bool = False) -> None:
        self.joins = joins
        self._rolling = rolling
        self._name = name
        self.digest = wanted.digest
        folder = Path(wanted.path)
        self._bundle, _ = read_any_bundle(folder, wanted.digest)
        self._image = (folder / KNOWN_IMAGE_FILE).read_bytes()

    def ask(self, url: str, tally: Tally) -> str | None:
        """Ask once and count the answer.

        Returns:
            Digest of the version that answered, None if none did.

        Raises:
            UnfitModel: if the version that is tried answers otherwise than it did when it was evaluated.
        """
        started = time.perf_counter()
        try:
            prediction = self._predict(url)
        except MscflowError as error:
            tally.failures.append(str(error))
            return None
        tally.seconds.setdefault(prediction.digest, []).append(time.perf_counter() - started)
        if prediction.digest == self.digest and not is_known(self._bundle, prediction):
            raise UnfitModel(f"{self._name} at {url} answers its known image with {told(prediction)}, off its own")
        return prediction.digest

    def step(self, url: str, percent: int, look: Callable[[], object]) -> Tally:
        """Ask until the version that is tried has answered often enough, and long enough; judge it.

        Args:
            url: The endpoint's.
            percent: Of the requests, those that it is to get.
            look: Called between requests; what it raises ends the step.

        Raises:
            DeploymentError: if requests fail, answers are slow, or the requests are not shared as they were to be.
            UnfitModel: if an answer is not the known one.
        """
        tally, begun, next_look = Tally(), time.monotonic(), 0.0
        while len(tally.of(self.digest)) < self._rolling.samples or _since(begun) < self._rolling.hold:
            if _since(begun) >= next_look:
                look()
                next_look = _since(begun) + self._rolling.interval
            if self.ask(url, tally) is None:
                self._judge_failures(tally, expected=math.ceil(self._rolling.samples * 100 / percent))
                time.sleep(min(self._rolling.interval, 0.2))
            if _since(begun) > self._rolling.timeout:
                self.judge(tally, percent)
                raise DeploymentError(self._too_few(tally, percent))
        self.judge(tally, percent)
        return tally

    def _predict(self, url: str) -> ModelPrediction:
        with Client(url, timeout=ANSWER_SECONDS, patience=0.0) as client:
            (answer,) = client.stream(self._name, [(KNOWN_IMAGE_FILE, self._image)])
        if answer.prediction is None or isinstance(answer.prediction, CulturePrediction):
            raise answer.error or DeploymentError(f"{self._name} at {url} gives no prediction")
        return answer.prediction

    def judge(self, tally: Tally, percent: int = 100) -> None:
        """Judge the failures and the slowness of a trial; see ``step``."""
        self._judge_failures(tally)
        new = tally.of(self.digest)
        old = [each for digest, given in tally.seconds.items() if digest != self.digest for each in given]
        if not old and new and percent < 100 and (percent / 100) ** len(new) < _CHANCE:
            raise DeploymentError(
                f"all of {len(new)} requests were answered by the new release, though it was to get {percent} %: this "
                "cluster does not split requests; set rollout.mode to standard"
            )
        slowest = _percentile(new)
        if slowest > self._rolling.max_latency:
            raise DeploymentError(
                f"95 of 100 answers of the new release came within {slowest:.3f} s, and rollout.max_latency is "
                f"{self._rolling.max_latency:g} s"
            )
        usual = _percentile(old)
        if old and slowest > max(usual * self._rolling.max_slowdown, usual + _JITTER):
            raise DeploymentError(
                f"95 of 100 answers of the new release came within {slowest:.3f} s, those of what serves within "
                f"{usual:.3f} s; rollout.max_slowdown is {self._rolling.max_slowdown:g}"
            )

    def _judge_failures(self, tally: Tally, expected: int = 0) -> None:
        """Give up once more requests have failed than may of all that are made, or are still expected."""
        if len(tally.failures) > self._rolling.max_errors * max(tally.requests, expected):
            raise DeploymentError(
                f"{len(tally.failures)} of {tally.requests} requests failed, such as: {tally.failures[-1]}; "
                f"rollout.max_errors is {self._rolling.max_errors:g}"
            )

    def _too_few(self, tally: Tally, percent: int) -> str:
        answered = len(tally.of(self.digest))
        return (
            f"the new release answered {answered} of {tally.requests} requests within {self._rolling.timeout:g} s, "
            f"though it was to get {percent} %, and rollout.samples is {self._rolling.samples}"
        )


def _percentile(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1] if seconds else 0.0


def _since(begun: float) -> float:
    return time.monotonic() - begun
