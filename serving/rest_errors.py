"""How REST answers errors: a status, one sentence, and a word for machines."""

import logging

from fastapi import Request
from fastapi.responses import JSONResponse
from kserve.errors import InvalidInput
from starlette.exceptions import HTTPException

from serving.logs import log_refusal
from serving.refusals import Refusal, Unauthorised

log = logging.getLogger("mscflow.request")


async def on_error(request: Request, error: Exception) -> JSONResponse:
    """Answer what was raised; what nobody expected is logged and told to nobody."""
    match error:
        case Refusal():
            return refuse(request, error)
        case InvalidInput():
            return _error(request, 400, str(error), "bad_request")
        case HTTPException(status_code=404):
            message = f"there is no path {request.url.path[:200]}; see serving/README.md"
            return _error(request, 404, message, "unknown_path")
        case HTTPException(status_code=405):
            allowed = (error.headers or {}).get("Allow", "GET, POST")
            message = f"{request.method[:20]} is not for {request.url.path[:200]}; it takes {allowed}"
            response = _error(request, 405, message, "bad_request")
            response.headers["allow"] = allowed
            return response
        case HTTPException():
            return _error(request, error.status_code, str(error.detail), "bad_request")
    request_id = getattr(request.state, "request_id", "none")
    if not _is_watched(request):
        log.error("request %s failed", request_id, exc_info=error)
    return _error(request, 500, f"the endpoint failed; its log tells more under request {request_id}", "bug")


def refuse(request: Request, refusal: Refusal, *, logged: bool = True) -> JSONResponse:
    """Answer a refusal.

    Args:
        request: Its id, where it has one, is sent back.
        refusal: Why.
        logged: Whether it gets a line in the log.
    """
    response = _error(request, refusal.status, str(refusal), refusal.reason, logged=logged)
    if refusal.retry_after:
        response.headers["retry-after"] = str(refusal.retry_after)
    if isinstance(refusal, Unauthorised):
        response.headers["www-authenticate"] = "Bearer"
    return response


def _error(request: Request, status: int, message: str, reason: str, *, logged: bool = True) -> JSONResponse:
    headers = {}
    request_id = getattr(request.state, "request_id", None)
    if request_id:
        headers["x-request-id"] = request_id
        if logged and not _is_watched(request):
            fields = {"request": request_id, "path": request.url.path[:200], "status": status, "reason": reason}
            log_refusal(message, fields)
    return JSONResponse({"error": message, "reason": reason}, status_code=status, headers=headers)


def _is_watched(request: Request) -> bool:
    """Whether who watches the request writes its line of the log."""
    return getattr(request.state, "watched", False)
