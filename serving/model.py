"""A model as KServe knows it, and the version that answers for it now."""

from dataclasses import dataclass
from typing import Any

from kserve import Model, ModelRepository

from components.endpoint.prediction import Prediction
from serving.loaded import Limits, LoadedModel
from serving.protocol import INPUT_TYPES, OUTPUT_TYPES, Body, Images
from serving.refusals import NotReady, UnknownName
from serving.workers import Workers


@dataclass(frozen=True)
class Answer:
    """A request, and what one model version said to it."""

    images: Images
    predictions: list[Prediction]


class ServedModel(Model):
    """A name under which one version after another is served.

    A request takes the version that is current when its work begins, and keeps it to its end: a swap
    is one assignment, which no request sees half-done.

    Attributes:
        current: The version that answers; None until one was loaded.
        problem: Why the wanted version does not serve; None when it does.
    """

    def __init__(self, name: str, workers: Workers, limits: Limits) -> None:
        super().__init__(name)
        self.current: LoadedModel | None = None
        self.problem: str | None = "it is being loaded"
        self._workers = workers
        self._limits = limits

    async def healthy(self) -> bool:
        """Whether a version can answer."""
        return self.current is not None

    def load(self) -> bool:
        """Whether a version can answer; loading is the rollout's work, not a request's."""
        return self.current is not None

    async def predict(self, payload: Body, headers: dict[str, str] | None = None) -> Answer:
        """Read the request, decode its images and infer, in a worker thread.

        Raises:
            Refusal: if the request cannot be answered.
        """

        def work() -> Answer:
            loaded = self.require()
            images = payload.images(self._limits.images)
            return Answer(images, loaded.predict(images.images, self._limits))

        return await self._workers.run(work)

    def require(self) -> LoadedModel:
        """Give the version that answers.

        Raises:
            NotReady: if there is none.
        """
        if self.current is None:
            raise NotReady(f"model {self.name} is not ready: {self.problem}", reason="not_ready")
        return self.current

    def get_input_types(self) -> list[dict[str, Any]]:
        """The v2 protocol's description of the input."""
        return INPUT_TYPES

    def get_output_types(self) -> list[dict[str, Any]]:
        """The v2 protocol's description of the outputs."""
        return OUTPUT_TYPES


class Repository(ModelRepository):
    """The models of the endpoint, and whether it can answer.

    Attributes:
        problem: Why the wanted models are not known; None when they are.
        draining: Set when the server has been asked to stop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, ServedModel] = {}
        self.problem: str | None = "it is starting"
        self.draining = False
        self._was_ready = False

    def require(self, name: str) -> ServedModel:
        """Give the model of this name, ready or not.

        Raises:
            UnknownName: naming those that there are.
        """
        model = self.models.get(name)
        if model is None:
            known = ", ".join(sorted(self.models)) or "none"
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
