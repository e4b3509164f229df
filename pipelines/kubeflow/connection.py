"""The way to the API of Kubeflow Pipelines: requests that are made again where that is safe, and things made once."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from components.endpoint.access import Access
from components.endpoint.connection import LOOPBACK
from components.errors import EndpointUnavailable, InputError
from components.kubeflow import KubeflowSettings
from pipelines.kubeflow.access import headers
from pipelines.kubeflow.failures import AlreadyThere, Unanswered, broken, refused

T = TypeVar("T")
Json = dict[str, Any]

API = "/apis/v2beta1"
PAGE = 100
FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0
# A server that never answered may be misspelt; one in trouble with a request is likely to stay so.
STRANGER_PATIENCE = 3.0
TROUBLE_PATIENCE = 15.0


class Connection:
    """Asks one Kubeflow Pipelines; used as a context manager.

    Args:
        settings: With its URL.

    Raises:
        InputError: if there is no URL, or a file of ``settings`` cannot be used.
    """

    def __init__(self, settings: KubeflowSettings) -> None:
        if not settings.url:
            raise InputError("no Kubeflow Pipelines is named; give its API with --url, or set kubeflow.url")
        parts = urlsplit(settings.url)
        self.settings, self.url = settings, settings.url
        self._met = False
        self._http = httpx.Client(
            base_url=settings.url + API,
            timeout=settings.timeout,
            verify=Access(ca=settings.ca).context() if parts.scheme == "https" else False,
            # A proxy that the environment names cannot reach this machine's loopback.
            trust_env=parts.hostname not in LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Json:
        """Read; tried again while the API is away.

        Raises:
            NotThere: if there is no such thing.
            InputError: if the API refuses, or stays away.
        """
        return self._patiently(lambda: self._ask("GET", path, query))

    def tell(self, method: str, path: str) -> None:
        """Ask for what may be asked for twice, such as an end; tried again as ``get``, whose errors it raises."""
        self._patiently(lambda: self._ask(method, path, {}))

    def make(
        self, find: Callable[[], Json | None], path: str, body: Json | None = None, **post: Any
    ) -> tuple[Json, bool]:
        """Make a thing once, also where an answer is lost: it is looked for before each attempt.

        Args:
            find: Gives the thing if it is there.
            path: That makes it.
            body: JSON.
            post: ``query``, and ``files`` in place of a body.

        Returns:
            The thing, and whether it was made.

        Raises:
            InputError: if the API refuses, or stays away.
        """

        def attempt() -> tuple[Json, bool]:
            found = find()
            if found is not None:
                return found, False
            return self._ask("POST", path, post.get("query", {}), json=body, files=post.get("files")), True

        return self._patiently(attempt)

    def pages(self, path: str, items: str, **query: Any) -> Iterator[Json]:
        """Give every item of a list, page by page; raises what ``get`` does."""
        token = ""
        while True:
            page = self.get(path, page_size=PAGE, page_token=token, **query)
            yield from page.get(items) or []
            token = page.get("next_page_token") or ""
            if not token:
                return

    def _patiently(self, attempt: Callable[[], T]) -> T:
        started, wait = time.monotonic(), FIRST_WAIT
        while True:
            try:
                return attempt()
            except (Unanswered, AlreadyThere) as error:
                # Clients that were refused together should not come back together.
                pause = wait * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                if time.monotonic() + pause > started + self._patience(error):
                    raise
            time.sleep(pause)
            wait = min(2 * wait, LONGEST_WAIT)

    def _patience(self, error: InputError) -> float:
        if not self._met:
            return min(STRANGER_PATIENCE, self.settings.patience)
        away = isinstance(error, Unanswered) and error.away
        return self.settings.patience if away else min(TROUBLE_PATIENCE, self.settings.patience)

    def _ask(self, method: str, path: str, query: Json, **body: Any) -> Json:
        given = {key: value for key, value in query.items() if value not in (None, "")}
        try:
            response = self._http.request(method, path, params=given, headers=headers(self.settings), **body)
        except httpx.HTTPError as error:
            raise broken(self.url, self.settings.timeout, error) from error
        self._met = self._met or response.status_code < 500
        if not response.is_success:
            raise refused(self.url, response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EndpointUnavailable(f"what answers at {self.url} is no API of Kubeflow Pipelines; check --url")
        return answer
