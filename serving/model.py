"""A model as KServe knows it, and the versions that answer for it now."""

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from kserve import Model, ModelRepository

from components.culture import CULTURE_MODEL, Modality
from components.endpoint.prediction import AnyPrediction
from components.imaging import Pixels
from components.novelty import Floats
from serving.answers import output_types
from serving.classifier import Classifier
from serving.culture import Culture
from serving.detector import Detector
from serving.loaded import LoadedModel
from serving.pictures import Limits, decode_within, placed
from serving.protocol import Body, Images, input_types
from serving.refusals import NotReady, UnknownName
from serving.workers import Workers


@dataclass(frozen=True)
class Stages:
    """Seconds that a request spent waiting for a thread, being read and decoded, and in the networks."""

    queue: float
    decode: float
    inference: float


@dataclass(frozen=True)
class Answer:
    """A request, and what was said to it.

    Attributes:
        model: Name that was asked.
        version: Version or versions that answered.
        features: Of each image, what ``components.novelty.describe`` gave; None where nobody asked.
    """

    model: str
    version: str
    images: Images
    predictions: Sequence[AnyPrediction]
    features: Sequence[Floats | None]
    stages: Stages


class Answering(Protocol):
    """The versions that answer one request: one model, or several together."""

    @property
    def version(self) -> str:
        """Its version, or those of its parts."""

    def describe(self) -> dict[str, Any]:
        """Which version answers, for clients."""

    def prepare(self, image: Pixels, modality: Modality | None) -> Any:
        """Bring an RGB image to what ``infer`` takes."""

    def infer(self, prepared: Sequence[Any]) -> Sequence[AnyPrediction]:
        """Answer for images that ``prepare`` gave, in their order."""


class Served(Model, ABC):
    """A name under which images are asked about.

    A request takes the versions that are current when its work begins, and keeps them to its end: a swap
    is one assignment, which no request sees half-done.
    """

    def __init__(self, name: str, workers: Workers, limits: Limits) -> None:
        super().__init__(name)
        self._workers = workers
        self._limits = limits

    @abstractmethod
    def require(self) -> Answering:
        """Give what answers now.

        Raises:
            NotReady: if nothing can.
        """

    @property
    def answers(self) -> bool:
        """Whether it can answer now."""
        try:
            self.require()
        except NotReady:
            return False
        return True

    async def healthy(self) -> bool:
        """Whether it can answer now."""
        return self.answers

    def load(self) -> bool:
        """Whether it can answer; loading is the rollout's work, not a request's."""
        return self.answers

    async def predict(self, payload: Body, headers: dict[str, str] | None = None) -> Answer:
        """Read the request, decode its images and infer, in a worker thread.

        Raises:
            Refusal: if the request cannot be answered.
        """
        asked = time.perf_counter()
        return await self._workers.run(lambda: self._answer(payload, asked))

    def _answer(self, payload: Body, asked: float) -> Answer:
        begun = time.perf_counter()
        answering, images = self.require(), payload.images(self._limits.images)
        prepared = []
        for index, (image, modality) in enumerate(zip(images.images, images.modalities, strict=True)):
            with placed(index, len(images.images)):
                prepared.append(answering.prepare(decode_within(image, self._limits), modality))
        decoded = time.perf_counter()
        predictions = answering.infer(prepared)
        stages = Stages(begun - asked, decoded - begun, time.perf_counter() - decoded)
        features = [item.description for item in prepared]
        return Answer(self.name, answering.version, images, predictions, features, stages)

    def get_input_types(self) -> list[dict[str, Any]]:
        """The v2 protocol's description of the inputs."""
        return input_types(self.name)

    def get_output_types(self) -> list[dict[str, Any]]:
        """The v2 protocol's description of the outputs."""
        return output_types(self.name)


class ServedModel(Served):
    """A registered model, of which one version after another is served.

    Attributes:
        current: The version that answers; None until one was loaded.
        problem: Why the wanted version does not serve; None when it does.
    """

    def __init__(self, name: str, workers: Workers, limits: Limits) -> None:
        super().__init__(name, workers, limits)
        self.current: LoadedModel | None = None
        self.problem: str | None = "it is being loaded"

    def require(self) -> LoadedModel:
        """Give the version that answers; see ``Served.require``."""
        if self.current is None:
            raise NotReady(f"model {self.name} is not ready: {self.problem}", reason="not_ready")
        return self.current


class ServedCulture(Served):
    """All models of a repository together."""

    def __init__(self, repository: "Repository", workers: Workers, limits: Limits) -> None:
        super().__init__(CULTURE_MODEL, workers, limits)
        self._repository = repository

    def require(self) -> Culture:
        """Give the versions that answer; see ``Served.require``."""
        loaded = [model.current for model in self._repository.models.values()]
        classifiers = {each.bundle.modality: each for each in loaded if isinstance(each, Classifier)}
        if not classifiers:
            raise NotReady(f"{self.name} is not ready: no model for confluence is served", reason="not_ready")
        detectors = [each for each in loaded if isinstance(each, Detector)]
        return Culture(classifiers, detectors[0] if detectors else None)


class Repository(ModelRepository):
    """The models of the endpoint, and whether it can answer.

    Attributes:
        models: Those that are deployed, by name.
        culture: What asks all of them together; None until the server sets it.
        problem: Why the wanted models are not known; None when they are.
        draining: Set when the server has been asked to stop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, ServedModel] = {}
        self.culture: ServedCulture | None = None
        self.problem: str | None = "it is starting"
        self.draining = False
        self._was_ready = False

    def get_model(self, name: str) -> Served | None:
        """Give what answers to this name, if anything does."""
        return self.get_models().get(name)

    def get_models(self) -> dict[str, Served]:
        """Give all that can be asked: what is deployed, and once any of it tells the confluence, the culture."""
        together = {CULTURE_MODEL: self.culture} if self.culture and self.culture.answers else {}
        return {**self.models, **together}

    def require(self, name: str) -> Served:
        """Give what answers to this name, ready or not.

        Raises:
            UnknownName: naming those that there are.
        """
        model = self.get_model(name)
        if model is None:
            known = ", ".join(sorted(self.get_models())) or "none"
            raise UnknownName(f"no model '{name[:100]}' is served; there is {known}", reason="unknown_model")
        return model

    def why_not_ready(self) -> str | None:
        """Say why the endpoint cannot answer; None where it can.

        At start all wanted models must be loaded. Once they were, the endpoint stays ready while any
        of them serves: a new model that fails does not take the others out of service.
        """
        if self.draining:
            return "it is stopping"
        serving = [model.current is not None for model in self.models.values()]
        if serving and (all(serving) or (self._was_ready and any(serving))):
            self._was_ready = True
            return None
        waiting = [f"{model.name}: {model.problem}" for model in self.models.values() if model.current is None]
        return self.problem or "; ".join(waiting) or "no model has been deployed to it"
