"""Why an endpoint could not be reached, in sentences that say what to do."""

import re
from typing import NamedTuple

import httpx

from components.errors import EndpointUnavailable

# By what OpenSSL says: what is the matter, and what to do about it.
_TLS = (
    (
        r"hostname mismatch|ip address mismatch",
        "the certificate is made out to another name ({text}); use that name in --url",
    ),
    (
        r"certificate verify failed",
        "its certificate is not trusted ({text}); give the authority that signed it with --ca",
    ),
    (r"wrong version number|record layer failure", "what answers there speaks no TLS; give its address as http://"),
    (
        r"\balert\b",
        "it refuses TLS with this client ({text}); if it asks for a certificate, give one with --certificate",
    ),
)


class Failure(NamedTuple):
    """Why there is no response.

    Attributes:
        passing: Whether it may go away by itself, so that it is worth while to try again.
    """

    error: EndpointUnavailable
    passing: bool


def explain(url: str, timeout: float, error: httpx.HTTPError) -> Failure:
    """Say what a failed request means."""
    text = re.sub(r"^\[[^]]*\] | \(_ssl\.c:\d+\)", "", str(error)) or type(error).__name__
    match error:
        case httpx.ConnectTimeout():
            return _failure(f"{url} takes no connection; check the address, and the firewalls on the way", passing=True)
        case httpx.TimeoutException():
            return _failure(f"{url} took longer than {timeout:g} s to answer; it may be overloaded", passing=False)
    for words, sentence in _TLS:
        if "SSL" in str(error) and re.search(words, text, re.IGNORECASE):
            return _failure(f"{url}: {sentence.format(text=text)}", passing=False)
    if isinstance(error, httpx.ConnectError):
        advice = "start one with 'mscflow serve', or give its --url"
        return _failure(f"no endpoint answers at {url} ({text}); {advice}", passing=True)
    # With TLS 1.3 a server that wants a certificate has often hung up before its reason can be read.
    advice = "give it as https://" if url.startswith("http:") else "show it a certificate with --certificate"
    message = f"what answers at {url} broke the connection ({text.rstrip('.')}); check the port, or {advice}"
    return _failure(message, passing=True)


def _failure(message: str, *, passing: bool) -> Failure:
    return Failure(EndpointUnavailable(message), passing)
