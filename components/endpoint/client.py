"""A client for the endpoint: asks about images, several at once, and waits where waiting helps."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from components.culture import ABNORMAL_MODEL, CULTURE_MODEL, Modality
from components.endpoint.access import Access
from components.endpoint.connection import Connection
from components.endpoint.inflight import in_order
from components.endpoint.prediction import (
    AnyPrediction,
    CellsPrediction,
    CulturePrediction,
    Prediction,
    answer_type,
)
from components.errors import ImageError, InputError

P = TypeVar("P", Prediction, CellsPrediction, CulturePrediction)

AT_ONCE = 8

# An image's name, for messages, and its encoded bytes or the file that holds them.
Source = tuple[str, bytes | Path]


class Answer(NamedTuple):
    """What came back for one image: a prediction, or why there is none."""

    name: str
    prediction: AnyPrediction | None
    error: InputError | None


class _Predictions(msgspec.Struct):
    predictions: list[msgspec.Raw]


class _Models(msgspec.Struct):
    models: list[str]


class Client:
    """Asks one endpoint; it may be used by several threads.

    A request that finds it busy, starting or unreachable is tried again, after a wait that doubles and
    heeds ``Retry-After``, until ``patience`` runs out.

    Args:
        url: Such as ``http://127.0.0.1:8080``.
        timeout: Seconds that one answer may take.
        patience: Seconds over which a request is tried again; fewer where nobody answers at all.
        at_once: Requests in flight, where there are several images.
        token: Sent as ``Authorization: Bearer``. This and the rest is read from the environment where it is not given.
        ca: PEM file of the authority that signed the endpoint's certificate; default: those of the system.
        certificate: PEM file of the client's own certificate.
        key: PEM file of its key; default: it lies in ``certificate``.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 60.0,
        patience: float = 15.0,
        at_once: int = AT_ONCE,
        token: str | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        self.at_once = at_once
        self._connection = Connection(url, timeout, patience, at_once, Access.of(token, ca, certificate, key))
        self.url = self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def models(self) -> list[str]:
        """Give the names of the models that the endpoint serves.

        Raises:
            EndpointUnavailable: if no endpoint answers.
            InputError: if it refuses the client.
        """
        return self._connection.read(self._connection.request("GET", "/v1/models"), _Models).models

    def describe(self, model: str) -> dict[str, Any]:
        """Give which version of a model answers: ``version``, ``digest``, ``data_version`` and more.

        Raises:
            EndpointUnavailable: if no endpoint answers, or the model is not ready.
            InputError: if the endpoint serves no such model.
        """
        return self._connection.read(self._connection.request("GET", f"/v1/models/{model}"), dict[str, Any])

    def why_not_ready(self) -> str | None:
        """Ask once whether the endpoint can answer; None if it can, else the reason.

        Raises:
            EndpointUnavailable: if no endpoint answers.
        """
        return self._connection.why_not("/v2/health/ready")

    def predict(self, model: str, images: Iterable[Source]) -> list[Prediction]:
        """Ask a confluence model about images.

        Raises:
            ImageError: if an image cannot be used; the message names it.
            InputError: if the endpoint serves no such model.
            EndpointUnavailable: if no endpoint answers, or it stays busy.
        """
        return self._all(Prediction, model, images)

    def find_cells(self, images: Iterable[Source]) -> list[CellsPrediction]:
        """Ask for the abnormal cells on images; raises what ``predict`` does."""
        return self._all(CellsPrediction, ABNORMAL_MODEL, images)

    def judge(self, images: Iterable[Source], modality: Modality | str) -> list[CulturePrediction]:
        """Ask for all that the endpoint knows of images; raises what ``predict`` does."""
        return self._all(CulturePrediction, CULTURE_MODEL, images, modality)

    def stream(self, model: str, images: Iterable[Source], modality: Modality | str | None = None) -> Iterator[Answer]:
        """Ask about images, in their order; one that cannot be used does not end the rest.

        Args:
            model: Any that is served.
            images: Taken a little ahead of the answers.
            modality: Which ``culture`` must be told.

        Raises:
            InputError: if the endpoint serves no such model, or not the modality.
            EndpointUnavailable: if no endpoint answers, or it stays busy.
        """
        return in_order(lambda source: self.answer(model, source, modality), images, self.at_once)

    def answer(self, model: str, image: Source, modality: Modality | str | None = None) -> Answer:
        """Ask about one image; raises what ``stream`` does."""
        kind: Any = answer_type(model)
        try:
            return Answer(image[0], self._ask(kind, model, image, modality), None)
        except ImageError as error:
            return Answer(image[0], None, error)

    def _all(
        self, kind: type[P], model: str, images: Iterable[Source], modality: Modality | str | None = None
    ) -> list[P]:
        return list(in_order(lambda source: self._ask(kind, model, source, modality), images, self.at_once))

    def _ask(self, kind: type[P], model: str, source: Source, modality: Modality | str | None) -> P:
        name, image = source
        instance: dict[str, Any] = {"image": {"b64": _bytes(name, image)}}  # which msgspec writes as base64
        if modality is not None:
            instance["modality"] = str(modality)
        body = msgspec.json.encode({"instances": [instance]})
        content = self._connection.request("POST", f"/v1/models/{model}:predict", body, about=name)
        answers = self._connection.read(content, _Predictions).predictions
        if len(answers) != 1:
            raise self._connection.stranger()
        return self._connection.read(answers[0], kind)


def _bytes(name: str, image: bytes | Path) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return image.read_bytes()
    except OSError as error:
        raise ImageError("unreadable", f"{name}: the file cannot be read ({error.strerror or error})") from error
