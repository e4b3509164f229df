"""A client for the endpoint: asks about images, several at once, and waits where waiting helps."""

import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from components.culture import ABNORMAL_MODEL, CULTURE_MODEL, Modality
from components.endpoint.access import Access
from components.endpoint.failures import explain
from components.endpoint.inflight import in_order
from components.endpoint.prediction import (
    AnyPrediction,
    CellsPrediction,
    CulturePrediction,
    Prediction,
    answer_type,
)
from components.errors import EndpointUnavailable, ImageError, InputError, MscflowError

T = TypeVar("T")
P = TypeVar("P", Prediction, CellsPrediction, CulturePrediction)

AT_ONCE = 8
FIRST_WAIT = 0.2
LONGEST_WAIT = 5.0
CONNECT_SECONDS = 10.0
# Who is busy is waited for; who is gone or not ready may be back after a restart; who never answered is not even
# starting, as an endpoint listens before it does anything slow.
GONE_PATIENCE = 15.0
UNKNOWN_PATIENCE = 3.0
BUSY = frozenset({429, 502, 503, 504})  # 502 and 504 are a gateway's, whose endpoint is starting or gone
REFUSED = frozenset({401, 403})
OVERLOADED = "overloaded"
OF_THE_IMAGE = frozenset({"empty", "unreadable", "unsupported", "too_large", "truncated", "not_base64", "too_slow"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

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


class _Error(msgspec.Struct):
    error: str
    reason: str = "refused"


class _TryAgain(Exception):
    def __init__(self, error: MscflowError, patience: float, after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.patience = patience
        self.after = after


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
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InputError(f"'{url}' is not the URL of an endpoint; give it as http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._timeout, self._patience, self.at_once = timeout, patience, at_once
        self._met = False
        access = Access.of(token, ca, certificate, key)
        self._http = httpx.Client(
            base_url=self.url,
            headers=access.headers(),
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=at_once),
            verify=access.context() if parts.scheme == "https" else False,
            # A proxy that the environment names cannot reach this machine's loopback.
            trust_env=parts.hostname not in LOOPBACK,
        )

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
            InputError: if it refuses the client.
        """
        return self._read(self._send("GET", "/v1/models").content, _Models).models

    def describe(self, model: str) -> dict[str, Any]:
        """Give which version of a model answers: ``version``, ``digest``, ``data_version`` and more.

        Raises:
            EndpointUnavailable: if no endpoint answers, or the model is not ready.
            InputError: if the endpoint serves no such model.
        """
        return self._read(self._send("GET", f"/v1/models/{model}").content, dict[str, Any])

    def why_not_ready(self) -> str | None:
        """Ask once whether the endpoint can answer; None if it can, else the reason.

        Raises:
            EndpointUnavailable: if no endpoint answers.
        """
        try:
            response = self._http.get("/v2/health/ready")
        except httpx.HTTPError as error:
            raise explain(self.url, self._timeout, error).error from error
        if response.status_code == 200:
            return None
        return self._read(response.content, _Error).error

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
        response = self._send("POST", f"/v1/models/{model}:predict", body, about=name)
        answers = self._read(response.content, _Predictions).predictions
        if len(answers) != 1:
            raise self._stranger()
        return self._read(answers[0], kind)

    def _send(self, method: str, path: str, body: bytes | None = None, about: str = "") -> httpx.Response:
        started, wait = time.monotonic(), FIRST_WAIT
        while True:
            try:
                response = self._try(method, path, body, about)
            except _TryAgain as again:
                # Clients that were refused together should not come back together.
                pause = max(wait * random.uniform(0.5, 1.0), again.after)  # noqa: S311 - no secret
                if time.monotonic() + pause > started + again.patience:
                    raise again.error from again
            else:
                return response
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)

    def _try(self, method: str, path: str, body: bytes | None, about: str) -> httpx.Response:
        try:
            response = self._http.request(method, path, content=body, headers={"Content-Type": "application/json"})
        except httpx.HTTPError as error:
            failure = explain(self.url, self._timeout, error)
            if failure.passing:
                most = GONE_PATIENCE if self._met else UNKNOWN_PATIENCE
                raise _TryAgain(failure.error, min(self._patience, most)) from error
            raise failure.error from error
        self._met = True
        if response.status_code == 200:
            return response
        if response.is_redirect:
            location = response.headers.get("location")
            raise InputError(f"{self.url} leads on to {location}; give that address as --url")
        why = self._why(response)
        refusal = self._refused(response.status_code, why, about)
        if response.status_code in BUSY:
            patience = self._patience if why.reason == OVERLOADED else min(self._patience, GONE_PATIENCE)
            after = response.headers.get("retry-after", "")
            raise _TryAgain(refusal, patience, float(after) if after.isdigit() else 0.0)
        raise refusal

    def _refused(self, status: int, error: _Error, about: str) -> MscflowError:
        if status in BUSY:
            return EndpointUnavailable(f"{self.url}: {error.error}")
        if status >= 500:
            return MscflowError(f"{self.url}: {error.error}")
        if about and error.reason in OF_THE_IMAGE:
            return ImageError(error.reason, f"{about}: {error.error}")
        return InputError(f"{self.url}: {error.error}")

    def _why(self, response: httpx.Response) -> _Error:
        """The error in a response; a gateway that stands before an endpoint has its own words for some."""
        try:
            return self._read(response.content, _Error)
        except EndpointUnavailable:
            if response.status_code in REFUSED:
                return _Error("the token is missing or not accepted; set MSCFLOW_TOKEN to the one you were given")
            if response.status_code in BUSY:
                reason = OVERLOADED if response.status_code == 429 else "gateway"
                return _Error(f"the gateway says {response.status_code} {response.reason_phrase}", reason)
            raise

    def _read(self, content: bytes | msgspec.Raw, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            raise self._stranger() from error

    def _stranger(self) -> EndpointUnavailable:
        return EndpointUnavailable(f"what answers at {self.url} is no endpoint of mscflow; check the URL")


def _bytes(name: str, image: bytes | Path) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return image.read_bytes()
    except OSError as error:
        raise ImageError("unreadable", f"{name}: the file cannot be read ({error.strerror or error})") from error
