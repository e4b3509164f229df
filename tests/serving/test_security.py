"""Who may ask: tokens and certificates, over REST and gRPC, and what stays open without them."""

import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from components.endpoint.client import Client
from components.endpoint.files import WantedModel, write_desired
from components.errors import InputError
from components.settings import ServingSettings
from serving.credentials import Credentials, Tokens
from serving.refusals import Unauthorised

MODEL = "confluence-single-stack"
SERVICE = "/inference.GRPCInferenceService/"
TOKEN, OTHER = "the-token-of-the-laboratory", "another-token-the-next-one"
OPEN = ("/", "/v2/health/live", "/v2/health/ready")
CLOSED = ("/v1/models", f"/v1/models/{MODEL}", "/v2", "/v2/models", f"/v2/models/{MODEL}/ready", "/metrics", "/nowhere")


def serving(folder: Path, make_bundle: Callable[..., str]) -> Path:
    write_desired(folder, {MODEL: WantedModel(str(folder / "bundle"), "1", make_bundle(folder / "bundle"))})
    return folder


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, serve: Any, make_bundle: Callable[..., str]) -> Iterator[Any]:
    """An endpoint that asks for a token."""
    folder = serving(tmp_path_factory.mktemp("guarded"), make_bundle)
    (folder / "tokens").write_text(f"# of the laboratory\n{TOKEN}\n\n{OTHER}\n")
    with serve(folder, "--token-file", str(folder / "tokens")) as endpoint:
        endpoint.wait(lambda status: status.ready)
        yield endpoint


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_health_needs_no_token_and_all_else_does(guarded: Any) -> None:
    for path in OPEN:
        assert guarded.http.get(path).status_code == 200
    for path in CLOSED:
        refused = guarded.http.get(path)
        assert (refused.status_code, refused.json()["reason"]) == (401, "unauthorised")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert guarded.http.get(path, headers=bearer(TOKEN)).status_code != 401


def test_every_token_of_the_file_opens_and_nothing_else_does(guarded: Any, png: Callable[..., bytes]) -> None:
    for token in (TOKEN, OTHER):
        with Client(guarded.url, token=token) as client:
            assert client.predict(MODEL, [("a", png())])[0].model_version == "1"
    for headers in (
        {},
        {"authorization": "Bearer"},
        bearer(TOKEN[:-1]),
        bearer("é"),
        {"authorization": f"Basic {TOKEN}"},
    ):
        encoded = {name: value.encode() for name, value in headers.items()}
        assert guarded.http.get("/v1/models", headers=encoded).status_code == 401
    with Client(guarded.url, token="not-the-right-one", patience=60) as client, pytest.raises(InputError):
        client.models()  # at once: a 401 is no reason to try again


def test_a_stranger_s_body_is_not_read(guarded: Any) -> None:
    """Else whoever is not let in could make the endpoint receive what it likes."""
    host, port = guarded.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            f"POST /v1/models/{MODEL}:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n".encode()
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_a_token_is_in_no_log(guarded: Any) -> None:
    guarded.http.get("/nowhere", headers=bearer(TOKEN))
    guarded.http.get("/nowhere", headers=bearer("a wrong one"))
    log = (guarded.folder / "log").read_text()
    assert TOKEN not in log
    assert "a wrong one" not in log


def ask(channel: grpc.Channel, method: str, request: bytes = b"", token: str | None = None) -> bytes:
    metadata = [] if token is None else list(bearer(token).items())
    return channel.unary_unary(SERVICE + method)(request, metadata=metadata, timeout=20)


def test_grpc_asks_for_the_token_too(guarded: Any, png: Callable[..., bytes]) -> None:
    request = messages.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="image", datatype="BYTES", shape=[1]).contents.bytes_contents.append(png())
    with grpc.insecure_channel(guarded.grpc) as channel:
        assert messages.ServerLiveResponse.FromString(ask(channel, "ServerLive")).live
        assert messages.ServerReadyResponse.FromString(ask(channel, "ServerReady")).ready
        for method in ("ModelInfer", "ServerMetadata", "ModelReady", "ModelMetadata", "RepositoryModelUnload"):
            for token in (None, "not the right one"):
                with pytest.raises(grpc.RpcError) as caught:
                    ask(channel, method, request.SerializeToString(), token)
                assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED, method
        found = ask(channel, "ModelInfer", request.SerializeToString(), OTHER)
    assert messages.ModelInferResponse.FromString(found).model_version == "1"


def test_all_tokens_are_compared_whatever_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving off at the first difference would tell a stranger how much of a guess is right."""
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("serving.credentials.hmac.compare_digest", compare)
    tokens = Tokens([TOKEN, OTHER])
    tokens.check(f"Bearer {TOKEN}")
    for wrong in ("", "Bearer", "Bearer x", f"Basic {TOKEN}"):
        with pytest.raises(Unauthorised):
            tokens.check(wrong)
    assert compared == [(32, 32)] * 10


class Authority:
    """Signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.path = self._write(f"{name}.pem", self._sign(name, self.key, authority=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Give the files of a certificate for 127.0.0.1 and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.NoEncryption()
        text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        return self._write(f"{name}.pem", self._sign(name, key)), self._write_bytes(f"{name}.key", text)

    def _sign(self, name: str, key: ec.EllipticCurvePrivateKey, *, authority: bool = False) -> x509.Certificate:
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(identifier, critical=False)
        )
        if not authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def _write(self, name: str, certificate: x509.Certificate) -> Path:
        return self._write_bytes(name, certificate.public_bytes(serialization.Encoding.PEM))

    def _write_bytes(self, name: str, content: bytes) -> Path:
        (self.folder / name).write_bytes(content)
        return self.folder / name


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="module")
def mutual(
    tmp_path_factory: pytest.TempPathFactory, serve: Any, make_bundle: Callable[..., str], authority: Authority
) -> Iterator[Any]:
    """An endpoint that shows a certificate and asks for one."""
    folder = serving(tmp_path_factory.mktemp("mutual"), make_bundle)
    certificate, key = authority.issue("server")
    files = {"--tls-certificate": certificate, "--tls-key": key, "--tls-client-ca": authority.path}
    with serve(folder, *(str(text) for pair in files.items() for text in pair)) as endpoint:
        endpoint.wait(lambda status: status.ready)
        endpoint.url = endpoint.url.replace("http:", "https:")
        yield endpoint


def test_a_client_with_a_certificate_of_the_authority_is_answered_over_rest_and_grpc(
    mutual: Any, authority: Authority, png: Callable[..., bytes]
) -> None:
    certificate, key = authority.issue("client")
    with Client(mutual.url, ca=authority.path, certificate=certificate, key=key) as client:
        assert client.predict(MODEL, [("a", png())])[0].model_version == "1"
    parts = (authority.path.read_bytes(), key.read_bytes(), certificate.read_bytes())
    with grpc.secure_channel(mutual.grpc, grpc.ssl_channel_credentials(*parts)) as channel:
        assert messages.ServerReadyResponse.FromString(ask(channel, "ServerReady")).ready


def stranger(tmp_path: Path) -> tuple[Path, Path]:
    return Authority(tmp_path, "nobody").issue("stranger")


@pytest.mark.parametrize("shows", ["nothing", "a certificate of another authority"])
def test_others_get_no_connection(mutual: Any, authority: Authority, tmp_path: Path, shows: str) -> None:
    context = ssl.create_default_context(cafile=authority.path)
    parts: list[bytes | None] = [authority.path.read_bytes(), None, None]
    if shows != "nothing":
        certificate, key = stranger(tmp_path)
        context.load_cert_chain(certificate, key)
        parts[1:] = [key.read_bytes(), certificate.read_bytes()]
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        httpx.get(f"{mutual.url}/v2/health/live", verify=context, trust_env=False)
    with grpc.secure_channel(mutual.grpc, grpc.ssl_channel_credentials(*parts)) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            ask(channel, "ServerLive")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_plain_and_old_connections_are_not_taken(mutual: Any) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(mutual.url.replace("https:", "http:") + "/v2/health/live", trust_env=False)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    host, port = mutual.url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as plain, pytest.raises((ssl.SSLError, OSError)):
        old.wrap_socket(plain)


def test_a_model_cannot_be_unloaded_and_no_page_tells_how_to_ask(guarded: Any) -> None:
    for path in (
        f"/v2/repository/models/{MODEL}/unload",
        f"/v2/repository/models/{MODEL}/load",
        "/v2/repository/index",
    ):
        assert guarded.http.post(path, headers=bearer(TOKEN)).status_code == 404
    for path in ("/docs", "/redoc", "/metrics/../v2/repository"):
        assert guarded.http.get(path, headers=bearer(TOKEN)).status_code == 404
    answer = guarded.http.get("/v2/health/live")
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no token"),
        ("# none\n\n", "holds no token"),
        ("short\n", "less than 16 characters"),
        ("a token with spaces in it\n", "a space"),
    ],
)
def test_a_token_file_of_no_use_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        Credentials.read(ServingSettings(token_file=path))


@pytest.mark.parametrize("what", ["missing", "no PEM", "another's key", "no authority"])
def test_tls_files_of_no_use_are_refused_with_their_names(tmp_path: Path, authority: Authority, what: str) -> None:
    certificate, key = authority.issue("one")
    noise = tmp_path / "noise.pem"
    noise.write_text("no certificate")
    files = {
        "missing": (tmp_path / "nowhere", key, None),
        "no PEM": (noise, key, None),
        "another's key": (certificate, authority.issue("two")[1], None),
        "no authority": (certificate, key, noise),
    }[what]
    given = dict(zip(("tls_certificate", "tls_key", "tls_client_ca"), files, strict=True))
    flag = "--tls-client-ca" if what == "no authority" else "--tls-certificate"
    with pytest.raises(InputError, match=f"{flag} .*cannot be used"):
        Credentials.read(ServingSettings(**given))


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(tmp_path: Path, authority: Authority) -> None:
    certificate, _ = authority.issue("locked")
    key = ec.generate_private_key(ec.SECP256R1())
    locked = serialization.BestAvailableEncryption(b"a secret")
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    (tmp_path / "locked.key").write_bytes(text)
    with pytest.raises(InputError, match="cannot be used"):
        Credentials.read(ServingSettings(tls_certificate=certificate, tls_key=tmp_path / "locked.key"))
