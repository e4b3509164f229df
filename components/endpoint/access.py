"""How a client shows an endpoint who it is, and tells who the endpoint is."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from components.errors import InputError

TOKEN_VARIABLE = "MSCFLOW_TOKEN"  # noqa: S105 - the name of a variable
CA_VARIABLE = "MSCFLOW_CA"
CERTIFICATE_VARIABLE = "MSCFLOW_CERTIFICATE"
KEY_VARIABLE = "MSCFLOW_KEY"


@dataclass(frozen=True)
class Access:
    """What a client needs where the endpoint, or a gateway before it, asks for more than an address."""

    token: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def of(cls, token: str | None, ca: Path | None, certificate: Path | None, key: Path | None) -> Self:
        """Take what is given, and the rest from the environment; a key belongs to the certificate beside it."""
        if certificate is None:
            certificate, key = _file(CERTIFICATE_VARIABLE), key or _file(KEY_VARIABLE)
        return cls(token or os.environ.get(TOKEN_VARIABLE) or None, ca or _file(CA_VARIABLE), certificate, key)

    def headers(self) -> dict[str, str]:
        """Give the headers of each request.

        Raises:
            InputError: if the token cannot be sent.
        """
        if self.token is None:
            return {}
        if not self.token.isascii() or not self.token.isprintable() or " " in self.token:
            raise InputError("the token holds a space, a line break or a letter beyond ASCII; give it as it was issued")
        return {"Authorization": f"Bearer {self.token}"}

    def context(self) -> ssl.SSLContext:
        """Give what TLS checks and shows.

        Raises:
            InputError: if a file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise InputError(
                f"the authorities' file '{self.ca}' cannot be used ({_why(error)}); it must be PEM"
            ) from error
        if self.certificate is not None:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except OSError as error:
                what = f"'{self.certificate}'" + (f" with key '{self.key}'" if self.key else "")
                raise InputError(f"the certificate {what} cannot be used ({_why(error)}); it must be PEM") from error
        return context


def read_token(path: Path) -> str:
    """Read the first token of a file, whose empty lines and lines that begin with ``#`` are passed over.

    Raises:
        InputError: if there is none.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--token-file '{path}' cannot be read ({error}); give a file with one token a line"
        ) from error
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise InputError(f"--token-file '{path}' holds no token; give a file with one token a line")
    return tokens[0]


def _file(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _why(error: OSError) -> str:
    return str(error) if isinstance(error, ssl.SSLError) else error.strerror or str(error)
