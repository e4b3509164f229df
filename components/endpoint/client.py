"""A client for the endpoint: asks about images, and waits where waiting helps."""

import base64
import random
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from components.endpoint.prediction import Prediction
from components.errors import EndpointUnavailable, ImageError, InputError, MscflowError

T = TypeVar("T")

FIRST_WAIT = 0.2
LONGEST_WAIT = 5.0
BUSY = frozenset({429, 503})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Answer(NamedTuple):
    """What came back for one image: a prediction, or why there is none."""

    name: str
    prediction: Prediction | None
    error: InputError | None


class _Predictions(msgspec.Struct):
    predictions: list[Prediction]


class _Models(msgspec.Struct):
    models: list[str]


class _Error(msgspec.Struct):
    error: str
    reason: str = "refused"


class _TryAgain(Exception):
    def __init__(self, error: MscflowError, after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


class Client:
    """Asks one endpoint.

    A request that finds it busy, starting or unreachable is tried again, after a wait that doubles and
    heeds ``Retry-After``, until ``patience`` runs out.

    Args:
        url: Such as ``http://127.0.0.1:8080``.
        timeout: Seconds that one answer may take.
        patience: Seconds over which a request is tried again.
    """

    def __init__(self, url: str, *, timeout: float = 60.0, patience: float = 15.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InputError(f"'{url}' is not the URL of an endpoint; give it as http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._patience = patience
        # A proxy that the environment names cannot reach this machine's loopback.
        self._http = httpx.Client(base_url=self.url, timeout=timeout, trust_env=parts.hostname not in LOOPBACK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> list[str]:
        """Give the names of the models that the endpoint serves.

        Raises:
            EndpointUnavailable: if no endpoint answers.
        """
        return self._read(self._send("GET", "/v1/models"), _Models).models

    def describe(self, model: str) -> dict[str, Any]:
        """Give which version of a model answers: ``version``, ``digest``, ``data_version`` and more.

        Raises:
            EndpointUnavailable: if no endpoint answers, or the model is not ready.
            InputError: if the endpoint serves no such model.
        """
        return self._read(self._send("GET", f"/v1/models/{model}"), dict[str, Any])

    def why_not_ready(self) -> str | None:
        """Ask once whether the endpoint can answer; None if it can, else the reason.

        Raises:
            EndpointUnavailable: if no endpoint answers.
        """
        try:
            response = self._http.get("/v2/health/ready")
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status_code == 200:
            return None
        return self._read(response, _Error).error

    def predict(self, model: str, images: Iterable[tuple[str, bytes]]) -> list[Prediction]:
        """Ask about images, given as names and encoded bytes.

        Raises:
            ImageError: if an image cannot be used; the message names it.
            InputError: if the endpoint serves no such model.
            EndpointUnavailable: if no endpoint answers, or it stays busy.
        """
        return [self._predict(model, name, image) for name, image in images]

    def stream(self, model: str, images: Iterable[tuple[str, bytes]]) -> Iterator[Answer]:
        """Ask about images one after the other; one that cannot be used does not end the rest.

        Raises:
            InputError: if the endpoint serves no such model.
            EndpointUnavailable: if no endpoint answers, or it stays busy.
        """
        for name, image in images:
            try:
                yield Answer(name, self._predict(model, name, image), None)
            except ImageError as error:
                yield Answer(name, None, error)

    def _predict(self, model: str, name: str, image: bytes) -> Prediction:
        body = {"instances": [{"image": {"b64": base64.b64encode(image).decode()}}]}
        response = self._send("POST", f"/v1/models/{model}:predict", body, about=name)
        return self._read(response, _Predictions).predictions[0]

    def _send(self, method: str, path: str, body: object = None, about: str = "") -> httpx.Response:
        deadline, wait = time.monotonic() + self._patience, FIRST_WAIT
        while True:
            try:
                return self._try(method, path, body, about)
            except _TryAgain as again:
                # Clients that were refused together should not come back together.
                pause = max(wait * random.uniform(0.5, 1.0), again.after)  # noqa: S311 - no secret
                if time.monotonic() + pause > deadline:
                    raise again.error from again
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)

    def _try(self, method: str, path: str, body: object, about: str) -> httpx.Response:
        try:
            response = self._http.request(method, path, json=body)
        except httpx.ReadTimeout as error:
            raise EndpointUnavailable(f"{self.url} took too long to answer; it may be overloaded") from error
        except httpx.HTTPError as error:
            raise _TryAgain(self._unreachable(error)) from error
        if response.status_code == 200:
            return response
        refusal = self._refused(response, about)
        if response.status_code in BUSY:
            after = response.headers.get("retry-after", "")
            raise _TryAgain(refusal, float(after) if after.isdigit() else 0.0)
        raise refusal

    def _refused(self, response: httpx.Response, about: str) -> MscflowError:
        error = self._read(response, _Error)
        if response.status_code in BUSY:
            return EndpointUnavailable(f"{self.url}: {error.error}")
        if response.status_code >= 500:
            return MscflowError(f"{self.url}: {error.error}")
        if about and response.status_code != 404:
            return ImageError(error.reason, f"{about}: {error.error}")
        return InputError(f"{self.url}: {error.error}")

    def _unreachable(self, error: httpx.HTTPError) -> EndpointUnavailable:
        return EndpointUnavailable(
            f"no endpoint answers at {self.url} ({error}); start one with 'mscflow serve', or give its --url"
        )

    def _read(self, response: httpx.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError as error:
            raise EndpointUnavailable(f"what answers at {self.url} is no endpoint of mscflow; check the URL") from error
