"""The way to an endpoint: requests that are tried again where waiting helps, and refusals turned into errors."""

import random
import time
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import msgspec

from components.endpoint.access import Access
from components.endpoint.failures import explain
from components.errors import EndpointUnavailable, ImageError, InputError, MscflowError

T = TypeVar("T")

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


class _Error(msgspec.Struct):
    error: str
    reason: str = "refused"


class _TryAgain(Exception):
    def __init__(self, error: MscflowError, patience: float, after: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.patience = patience
        self.after = after


class Connection:
    """Reaches one endpoint; it may be used by several threads.

    Args:
        url: Such as ``http://127.0.0.1:8080``.
        timeout: Seconds that one answer may take.
        patience: Seconds over which a request is tried again; fewer where nobody answers at all.
        keep: Connections that are kept open.
        access: Token and certificates.
    """

    def __init__(self, url: str, timeout: float, patience: float, keep: int, access: Access) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InputError(f"'{url}' is not the URL of an endpoint; give it as http://127.0.0.1:8080")
        self.url = url.rstrip("/")
        self._timeout, self._patience = timeout, patience
        self._met = False
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Content-Type": "application/json", **access.headers()},
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=keep),
            verify=access.context() if parts.scheme == "https" else False,
            # A proxy that the environment names cannot reach this machine's loopback.
            trust_env=parts.hostname not in LOOPBACK,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def why_not(self, path: str) -> str | None:
        """Ask once; None where the answer is 200, else the reason.

        Raises:
            EndpointUnavailable: if no endpoint answers.
        """
        try:
            response = self._http.get(path)
        except httpx.HTTPError as error:
            raise explain(self.url, self._timeout, error).error from error
        return None if response.status_code == 200 else self.read(response.content, _Error).error

    def request(self, method: str, path: str, body: bytes | None = None, about: str = "") -> bytes:
        """Give what the endpoint answers.

        Args:
            method: Of HTTP.
            path: Below the URL.
            body: JSON.
            about: Name of the image that the request is about, for messages.

        Raises:
            ImageError: if the image cannot be used.
            InputError: if the endpoint refuses the request.
            EndpointUnavailable: if no endpoint answers, or it stays busy.
        """
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
                return response.content
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)

    def _try(self, method: str, path: str, body: bytes | None, about: str) -> httpx.Response:
        try:
            response = self._http.request(method, path, content=body)
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
            return self.read(response.content, _Error)
        except EndpointUnavailable:
            if response.status_code in REFUSED:
                return _Error("the token is missing or not accepted; set MSCFLOW_TOKEN to the one you were given")
            if response.status_code in BUSY:
                reason = OVERLOADED if response.status_code == 429 else "gateway"
                return _Error(f"the gateway says {response.status_code} {response.reason_phrase}", reason)
            raise

    def read(self, content: bytes | msgspec.Raw, kind: type[T]) -> T:
        """Read JSON of the endpoint's.

        Raises:
            EndpointUnavailable: if no endpoint of mscflow would say such a thing.
        """
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError as error:
            raise self.stranger() from error

    def stranger(self) -> EndpointUnavailable:
        """The error for an answer that is no endpoint's."""
        return EndpointUnavailable(f"what answers at {self.url} is no endpoint of mscflow; check the URL")
