"""What is kept of each request: its figures, its line in the log, its trace, and perhaps its images.

All protocols hand their requests through a ``Watch``, so that a request is counted once, however it ends.
"""

import logging
import re
import time
import uuid
from asyncio import CancelledError
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self

from kserve.errors import InvalidInput
from starlette.requests import Request

from components.endpoint.prediction import AnyPrediction
from components.settings import ServingSettings
from serving.feedback import Feedback
from serving.logs import log_refusal
from serving.metrics import Metrics, parts, stage_seconds
from serving.model import Answer
from serving.refusals import Refusal
from serving.tracing import Tracing, open_tracing, trace_id_of

Protocol = Literal["v1", "v2", "grpc"]
ID_LENGTH = 100

_PREDICTIONS = re.compile("/(?P<rest>v1|v2)/models/(?P<model>[^/]*)(:predict|/infer)|ModelInfer")

log = logging.getLogger("mscflow.request")


class Observer:
    """Watches requests.

    Args:
        metrics: Where they are counted.
        tracing: Where their spans go; None where no collector was named.
        feedback: Where samples of them go; None where none are wanted.
    """

    def __init__(self, metrics: Metrics, tracing: Tracing | None = None, feedback: Feedback | None = None) -> None:
        self.metrics = metrics
        self.tracing = tracing
        self.feedback = feedback

    @classmethod
    def of(cls, settings: ServingSettings, metrics: Metrics) -> Self:
        """Make the observer that the settings and the environment ask for."""
        feedback = None
        if settings.feedback_rate:
            where = (settings.feedback_store, settings.feedback_keep_days, settings.feedback_queue)
            feedback = Feedback(settings.feedback_rate, *where, metrics.count_samples)
        return cls(metrics, open_tracing(), feedback)

    def watch(
        self, protocol: Protocol, model: str, path: str, headers: Mapping[str, Any], request_id: str = ""
    ) -> "Watch":
        """Begin to watch a request that has just arrived.

        Args:
            protocol: Over which it came.
            model: Name that it asks for, known or not.
            path: As it is logged.
            headers: Its headers or metadata, for its id and its trace.
            request_id: Its id, where it was read off the headers already.
        """
        return Watch(self, protocol, model, path, headers, request_id)

    def watch_rest(self, request: Request, model: str) -> "Watch":
        """Begin to watch a REST request; see ``watch``. Its line of the log is the watch's, too."""
        request.state.watched = True
        path = request.scope["path"]
        protocol: Protocol = "v1" if path.startswith("/v1/") else "v2"
        return self.watch(protocol, model, path, request.headers, request.state.request_id)

    def turned_away(self, path: str, refusal: Refusal) -> None:
        """Count a request that was refused before it was read; others than those for predictions do not count.

        Args:
            path: REST's path, or gRPC's method. Which model is asked stands in a gRPC message, which was not read.
            refusal: Why.
        """
        found = _PREDICTIONS.fullmatch(path)
        if found:
            model, protocol = (found["model"] or "", found["rest"]) if found["rest"] else ("", "grpc")
            self.metrics.count_refusal(self.metrics.label(model), protocol, refusal.reason)

    def close(self) -> None:
        """Send and write what waits, for a few seconds at most."""
        if self.feedback:
            self.feedback.close()
        if self.tracing:
            self.tracing.close()


class Watch:
    """One request, from its arrival to its end; a context that notes how it ends, and changes nothing in it.

    Attributes:
        request_id: Given by the client, or made up where it gave none.
    """

    def __init__(
        self,
        observer: Observer,
        protocol: Protocol,
        model: str,
        path: str,
        headers: Mapping[str, Any],
        request_id: str,
    ) -> None:
        self.request_id = request_id or request_id_of(headers)
        self._observer = observer
        self._protocol = protocol
        self._model = observer.metrics.label(model)
        self._path = path[:200]
        self._answer: Answer | None = None
        self._started = self._read = time.perf_counter()
        tracing = observer.tracing
        self._span = tracing.begin(f"{protocol} {self._model}", self.request_id, headers) if tracing else None
        self._trace_id = self._span.trace_id if self._span else trace_id_of(headers)

    def received(self, size: int) -> None:
        """Note that the request's body has arrived, so many bytes of it."""
        self._read = time.perf_counter()
        self._observer.metrics.received.labels(self._protocol).inc(size)

    def answered(self, answer: Answer) -> None:
        """Note what is answered."""
        self._answer = answer

    def __enter__(self) -> Self:
        self._observer.metrics.in_flight += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        seconds = time.perf_counter() - self._started
        outcome, reason, status = _outcome(error)
        self._observer.metrics.in_flight -= 1
        fields = self._fields(outcome, seconds)
        if error is None and self._answer is not None:
            self._keep_answer(self._answer, seconds, fields)
        elif reason is not None:
            self._observer.metrics.count_refusal(self._model, self._protocol, reason)
            log_refusal(str(error) or "the client left", fields | {"status": status, "reason": reason})
        else:
            self._observer.metrics.requests.labels(self._model, self._protocol, outcome).inc()
            log.error("request %s failed", self.request_id, exc_info=error, extra={"fields": fields})
        if self._span:
            self._span.end(self._read - self._started, self._answer, outcome, reason)

    def _keep_answer(self, answer: Answer, seconds: float, fields: dict[str, Any]) -> None:
        received = self._read - self._started
        self._observer.metrics.count_answer(self._model, self._protocol, answer, received, seconds)
        log.info("answered", extra={"fields": fields | _answer_fields(answer, received)})
        if self._observer.feedback:
            self._observer.feedback.offer(self.request_id, self._model, self._protocol, answer)

    def _fields(self, outcome: str, seconds: float) -> dict[str, Any]:
        fields = {
            "request": self.request_id,
            "protocol": self._protocol,
            "path": self._path,
            "model": self._model,
            "outcome": outcome,
            "milliseconds": round(1000 * seconds, 1),
        }
        return fields | {"trace": self._trace_id} if self._trace_id else fields


def request_id_of(headers: Mapping[str, Any]) -> str:
    """Give the id that a client gave its request in headers or metadata, or make one up."""
    return str(headers.get("x-request-id") or uuid.uuid4().hex)[:ID_LENGTH]


def _outcome(error: BaseException | None) -> tuple[str, str | None, int]:
    """Give how a request ended, why it was refused if it was, and its status over REST."""
    match error:
        case None:
            return "answered", None, 200
        case Refusal():
            return "refused", error.reason, error.status
        case InvalidInput():
            return "refused", "bad_request", 400
        case CancelledError():
            return "refused", "disconnected", 400
    return "failed", None, 500


def _answer_fields(answer: Answer, received: float) -> dict[str, Any]:
    took = {"receive": received, **stage_seconds(answer)}
    return {
        "version": answer.version,
        "images": len(answer.predictions),
        "abstained": sum(_abstains(item) for item in answer.predictions),
        **{f"{stage}_ms": round(1000 * seconds, 1) for stage, seconds in took.items()},
    }


def _abstains(prediction: AnyPrediction) -> bool:
    return any(part.abstain for part in parts(prediction))
