"""What is decided before anything of a request is read: who may ask, and whether there is a place for it."""

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.credentials import Tokens
from serving.observer import Observer, request_id_of
from serving.refusals import Overloaded, Refusal
from serving.rest_errors import refuse
from serving.tally import Tally
from serving.workers import Workers

# Probes bring no token.
OPEN_PATHS = frozenset({"/", "/v2/health/live", "/v2/health/ready"})


class Gate:
    """Stands before the application, and costs a refused request a fraction of what the application would.

    Args:
        app: The application.
        workers: Knows whether there is a place.
        tokens: Of which a request must bring one; None asks for none.
        observer: Is told of those that are turned away.
    """

    def __init__(self, app: ASGIApp, workers: Workers, tokens: Tokens | None, observer: Observer) -> None:
        self._app = app
        self._workers = workers
        self._tokens = tokens
        self._observer = observer
        self._tally = Tally("REST")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        request.state.request_id = request_id_of(request.headers)
        try:
            self._check(request)
        except Refusal as refusal:
            self._observer.turned_away(request.scope["path"], refusal)
            busy = isinstance(refusal, Overloaded)
            if busy:
                self._tally.add()
            await refuse(request, refusal, logged=not busy)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        path = request.scope["path"]
        if self._tokens is not None and path not in OPEN_PATHS:
            self._tokens.check(request.headers.get("authorization", ""))
        if request.method == "POST" and path.endswith((":predict", "/infer")):
            self._workers.check()
