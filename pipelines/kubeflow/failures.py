"""What may come back from Kubeflow Pipelines instead of an answer, in sentences that say what to do."""

import httpx

from components.endpoint.failures import explain
from components.errors import EndpointUnavailable, InputError, MscflowError
from pipelines.kubeflow.access import COOKIE_VARIABLE, TOKEN_VARIABLE

# 502 and 504 are a gateway's, whose server is starting or gone.
AWAY = frozenset({429, 502, 503, 504})
_LOG_IN = f"give a token with --token-file or in {TOKEN_VARIABLE}, or a session's cookie in {COOKIE_VARIABLE}"
_LONGEST = 400


class NotThere(InputError):
    """Kubeflow Pipelines has no such thing."""


class AlreadyThere(InputError):
    """Kubeflow Pipelines has such a thing already."""


class Unanswered(EndpointUnavailable):
    """A request whose answer did not come, so that what it asked for may have been done.

    Args:
        message: The sentence for people.
        away: Whether the server is away rather than in trouble with this request.
    """

    def __init__(self, message: str, *, away: bool) -> None:
        super().__init__(message)
        self.away = away


def broken(url: str, timeout: float, error: httpx.HTTPError) -> MscflowError:
    """Say what a request that got no response means."""
    failure = explain(url, timeout, error)
    if isinstance(error, httpx.ConnectError) and failure.passing:
        advice = "check --url, the network, and that the service is up"
        return Unanswered(f"no Kubeflow Pipelines answers at {url} ({error}); {advice}", away=True)
    if failure.passing or isinstance(error, httpx.TimeoutException):
        return Unanswered(str(failure.error), away=True)
    return failure.error


def refused(url: str, response: httpx.Response) -> MscflowError:
    """Say what a response other than success means."""
    status, why = response.status_code, reason(response)
    if response.is_redirect:
        return InputError(
            f"{url} wants somebody to log in (it leads on to {response.headers.get('location')}); {_LOG_IN}"
        )
    match status:
        case 401:
            return InputError(f"{url} does not know who asks ({why}); {_LOG_IN}")
        case 403:
            return InputError(f"{url} does not allow this ({why}); ask for the right in that namespace, or {_LOG_IN}")
        case 404:
            return NotThere(f"{url}: {why}")
        case 409:
            return AlreadyThere(f"{url}: {why}")
    if status in AWAY or status >= 500:
        return Unanswered(f"{url} is in trouble ({status}: {why})", away=status in AWAY)
    return InputError(f"{url} refuses the request ({status}: {why})")


def reason(response: httpx.Response) -> str:
    """Give the words of an error, whichever server on the way wrote it."""
    try:
        body = response.json()
        said = body.get("message") or body.get("error") or ""
    except (ValueError, AttributeError):
        said = "" if "html" in response.headers.get("content-type", "") else response.text
    text = " ".join(str(said).split()) or response.reason_phrase
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
