"""What a client must show, where the endpoint is not open to all: a token, a certificate, or both."""

import hashlib
import hmac
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from components.errors import InputError
from components.settings import ServingSettings
from serving.refusals import Unauthorised

SHORTEST_TOKEN = 16


class Tokens:
    """Bearer tokens, of which a request must bring one.

    Args:
        tokens: At least one.
    """

    def __init__(self, tokens: list[str]) -> None:
        self._digests = [_digest(token) for token in tokens]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of one token a line.

        Raises:
            InputError: if it cannot be read, holds none, or holds one that is short.
        """
        lines = [line.strip() for line in _text(path, "--token-file").splitlines()]
        tokens = [line for line in lines if line and not line.startswith("#")]
        if not tokens:
            raise InputError(f"--token-file '{path}' holds no token; write one into it: openssl rand -hex 32")
        if min(map(len, tokens)) < SHORTEST_TOKEN:
            raise InputError(f"--token-file '{path}' holds a token of less than {SHORTEST_TOKEN} characters")
        if not all(token.isascii() and token.isprintable() and " " not in token for token in tokens):
            raise InputError(f"--token-file '{path}' holds a token with a space or a letter beyond ASCII in it")
        return cls(tokens)

    def check(self, authorization: str) -> None:
        """Check the header ``Authorization``; it takes the same time whatever is wrong.

        Raises:
            Unauthorised: if it holds none of the tokens.
        """
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        known = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(known):
            what = "a token that is not known" if authorization else "no token"
            raise Unauthorised(f"the request brings {what}; send 'Authorization: Bearer TOKEN'", reason="unauthorised")


@dataclass(frozen=True)
class Tls:
    """The server's certificate, and who may sign those of clients."""

    certificate: Path
    key: Path
    client_ca: Path | None

    def context(self) -> ssl.SSLContext:
        """Give it for REST.

        Raises:
            InputError: if a file cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            # Without a password given, OpenSSL would ask the terminal for it.
            context.load_cert_chain(self.certificate, self.key, password="")
        except OSError as error:
            message = f"--tls-certificate '{self.certificate}' and --tls-key '{self.key}' cannot be used"
            raise InputError(f"{message} ({error.strerror or error}); give a PEM file each, of one pair") from error
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            try:
                context.load_verify_locations(self.client_ca)
            except OSError as error:
                message = f"--tls-client-ca '{self.client_ca}' cannot be used ({error.strerror or error})"
                raise InputError(f"{message}; give a PEM file of certificates") from error
        return context

    def files(self) -> tuple[bytes, bytes, bytes | None]:
        """Give key, certificate and client authorities for gRPC, as they are in the files."""
        authorities = self.client_ca.read_bytes() if self.client_ca else None
        return self.key.read_bytes(), self.certificate.read_bytes(), authorities


@dataclass(frozen=True)
class Credentials:
    """What clients must show; nothing, where both are None."""

    tokens: Tokens | None = None
    tls: Tls | None = None

    @classmethod
    def read(cls, settings: ServingSettings) -> Self:
        """Read and check the files that the settings name.

        Raises:
            InputError: if one cannot be used.
        """
        tokens = Tokens.read(settings.token_file) if settings.token_file else None
        tls = None
        if settings.tls_certificate and settings.tls_key:
            tls = Tls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
            tls.context()
        return cls(tokens, tls)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()


def _text(path: Path, flag: str) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{flag} '{path}' cannot be read ({getattr(error, 'strerror', error)})") from error
