"""What the endpoint counts, for Prometheus; docs/serving/observability.md lists it.

The endpoint is one process whose workers are threads, so that one registry holds the figures of all. KServe's
own metrics (``request_predict_seconds`` and its like) stay beside these: KServe measures them anyway, and its
dashboards read them.

Labels are words of ours, models and versions that were deployed: nothing that a client can make up.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from components.endpoint.prediction import AnyPrediction, CellsPrediction, CulturePrediction, Prediction
from serving.model import Answer, Repository
from serving.workers import Workers

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)
# 1 is the bound from which on a model abstains.
NOVELTY = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 2, 4)
UNKNOWN_MODEL = "unknown"

# When each series began would double what a scrape carries, and nobody asks.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The figures of requests and models.

    Args:
        repository: The models, for the figures that are read off them when somebody asks.
        workers: Their load, likewise.
        threads: Of the workers.

    Attributes:
        registry: All figures of the process, KServe's and those of Python among them.
        in_flight: Requests that have arrived and are not answered yet.
    """

    def __init__(self, repository: Repository, workers: Workers, threads: int) -> None:
        registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mscflow_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"mscflow_{name}", text, labels, buckets=buckets, registry=registry)

        self._repository = repository
        self._workers = workers
        self._threads = threads
        self.registry = registry
        self.in_flight = 0
        self.requests = counter("requests", "Requests, by how they ended.", "model", "protocol", "outcome")
        self.refusals = counter("refusals", "Refused requests, by why.", "model", "protocol", "reason")
        self.seconds = histogram(
            "request_seconds", "Of answered requests, from arrival to answer.", SECONDS, "model", "protocol"
        )
        self.stages = histogram("stage_seconds", "Of answered requests, by what took it.", SECONDS, "model", "stage")
        self.images = histogram("request_images", "Images of an answered request.", IMAGES, "model")
        self.received = counter("received_bytes", "Bytes of requests' bodies.", "protocol")
        self.predictions = counter("predictions", "Images, by class.", "model", "version", "class")
        self.abstentions = counter("abstentions", "Images left to a person, by why.", "model", "version", "reason")
        self.cells = counter("abnormal_cells", "Abnormal cells found.", "model", "version")
        self.novelty = histogram("novelty_ratio", "How unlike the training images; 1 = the bound.", NOVELTY, "model")
        self.swaps = counter("model_swaps", "Versions that took over.", "model")
        self.load_failures = counter("model_load_failures", "Versions that were wanted and rejected.", "model")
        self.feedback = counter("feedback_requests", "Requests sampled for retraining, by what came of it.", "outcome")
        for outcome in ("written", "dropped", "failed"):
            self.feedback.labels(outcome)
        registry.register(_Made(self.state))
        registry.register(_Made(REGISTRY.collect))

    def label(self, model: str) -> str:
        """Give the label of a model that a client named: one for all that are not served."""
        return model if self._repository.get_model(model) is not None else UNKNOWN_MODEL

    def count_refusal(self, model: str, protocol: str, reason: str) -> None:
        """Count a refused request."""
        self.requests.labels(model, protocol, "refused").inc()
        self.refusals.labels(model, protocol, reason).inc()

    def count_answer(self, model: str, protocol: str, answer: Answer, received: float, seconds: float) -> None:
        """Count an answered request, and what was answered.

        Args:
            model: Name that was asked.
            protocol: By which it was asked.
            answer: What was answered.
            received: Seconds until all of the request was there.
            seconds: Until the answer was.
        """
        self.requests.labels(model, protocol, "answered").inc()
        # Refusals have no part in this: they are quick, and many of them would make an overload look fast.
        self.seconds.labels(model, protocol).observe(seconds)
        for stage, took in {"receive": received, **stage_seconds(answer)}.items():
            self.stages.labels(model, stage).observe(took)
        self.images.labels(model).observe(len(answer.predictions))
        for prediction in answer.predictions:
            for part in parts(prediction):
                self._count_part(part)

    def count_samples(self, outcome: str, requests: int) -> None:
        """Count what came of requests that were sampled for retraining; any thread may call it."""
        self.feedback.labels(outcome).inc(requests)

    def publish(self, accept: str) -> tuple[bytes, str]:
        """Give the text that Prometheus scrapes, and its media type, for a header ``Accept``."""
        encoder, media_type = choose_encoder(accept)
        return encoder(self.registry), media_type

    def state(self) -> Iterator[GaugeMetricFamily]:
        """Give what is so at this moment, read off the models and workers themselves."""
        ready = self._repository.why_not_ready() is None
        yield GaugeMetricFamily("mscflow_ready", "Whether the endpoint can answer.", float(ready))
        yield GaugeMetricFamily("mscflow_requests_in_flight", "Arrived and not answered yet.", self.in_flight)
        queued = max(0, self._workers.held - self._threads)
        yield GaugeMetricFamily("mscflow_requests_queued", "Of them, those that wait for a thread.", queued)
        serves = GaugeMetricFamily("mscflow_model_ready", "Whether a version answers.", labels=["model"])
        failed = GaugeMetricFamily("mscflow_model_failed", "Whether the wanted version does not.", labels=["model"])
        info = GaugeMetricFamily("mscflow_model_info", "What answers.", labels=["model", "version", "digest"])
        for model in list(self._repository.models.values()):
            current = model.current
            serves.add_metric([model.name], float(current is not None))
            failed.add_metric([model.name], float(model.problem is not None))
            if current is not None:
                info.add_metric([model.name, current.version, current.digest], 1)
        yield from (serves, failed, info)

    def _count_part(self, part: Prediction | CellsPrediction) -> None:
        model, version = part.model, part.model_version
        if isinstance(part, Prediction):
            self.predictions.labels(model, version, part.name).inc()
        else:
            self.predictions.labels(model, version, "abnormal" if part.count else "none").inc()
            self.cells.labels(model, version).inc(part.count)
        if part.abstain:
            self.abstentions.labels(model, version, part.reason or "unsure").inc()
        if part.novelty is not None:
            self.novelty.labels(model).observe(part.novelty)


def stage_seconds(answer: Answer) -> dict[str, float]:
    """Give what each stage of an answer took, in their order."""
    stages = answer.stages
    return {"queue": stages.queue, "decode": stages.decode, "inference": stages.inference}


def parts(prediction: AnyPrediction) -> list[Prediction | CellsPrediction]:
    """Give what each model said of an image: of a culture two of them, of all else one."""
    if isinstance(prediction, CulturePrediction):
        cells = prediction.abnormal_cells
        return [prediction.confluence] if cells is None else [prediction.confluence, cells]
    return [prediction]


class _Made(Collector):
    """Figures that are made when somebody asks."""

    def __init__(self, make: Callable[[], Iterable[Metric]]) -> None:
        self._make = make

    def collect(self) -> Iterable[Metric]:
        return self._make()
