"""How Kubeflow Pipelines is shown who asks: by a token, or by the cookie of a browser's session."""

import os
from pathlib import Path

from components.endpoint.access import Access, read_token
from components.errors import InputError
from components.kubeflow import KubeflowSettings

TOKEN_VARIABLE = "MSCFLOW_KUBEFLOW_TOKEN"  # noqa: S105 - the name of a variable
COOKIE_VARIABLE = "MSCFLOW_KUBEFLOW_COOKIE"
# Where a pod of Kubeflow's finds the token of its ServiceAccount that is meant for this API.
POD_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")


def headers(settings: KubeflowSettings) -> dict[str, str]:
    """Give the headers of one request; files are read anew, as tokens of ServiceAccounts change by the hour.

    Raises:
        InputError: if a token or a cookie cannot be read or sent.
    """
    cookie = os.environ.get(COOKIE_VARIABLE, "").strip()
    if cookie and ("=" not in cookie or not cookie.isascii() or not cookie.isprintable()):
        raise InputError(f"{COOKIE_VARIABLE} is no cookie; give it as NAME=VALUE, as the browser shows it")
    token = _token(settings.token_file)
    return {**Access(token=token).headers(), **({"Cookie": cookie} if cookie else {})}


def _token(file: Path | None) -> str | None:
    if file is not None:
        return read_token(file)
    if given := os.environ.get(TOKEN_VARIABLE, "").strip():
        return given
    return read_token(POD_TOKEN) if POD_TOKEN.is_file() else None
