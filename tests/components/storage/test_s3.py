"""What S3 adds to the contract: keys, buckets and connections that fail."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from botocore.config import Config

from components.errors import StorageError
from components.storage import ObjectStore, open_store
from components.storage import s3 as s3_module


class Proxy:
    """Passes bytes between a client and a server, and cuts the first connections' answers short."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._target, self._cuts = port, cuts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._pass, args=(client, server, None), daemon=True).start()
                cut = self._cuts.pop(0) if self._cuts else None
                threading.Thread(target=self._pass, args=(server, client, cut), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, left: int | None) -> None:
        with suppress(OSError), source, sink:
            while data := source.recv(1 << 16 if left is None else min(left, 1 << 16)):
                sink.sendall(data)
                if left is not None and (left := left - len(data)) <= 0:
                    break
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def through_proxy(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[list[int]], ObjectStore]]:
    """Opens the store through a proxy that cuts one connection after the other after so many bytes."""
    import os

    proxies: list[Proxy] = []

    def start(cuts: list[int]) -> ObjectStore:
        port = int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2])
        proxies.append(Proxy(port, cuts))
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxies[-1].uri)
        return open_store(s3_uri)

    yield start
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def uses() -> list[Callable[[ObjectStore], object]]:
    return [
        lambda store: store.read("k"),
        lambda store: store.stat("k"),
        lambda store: list(store.list()),
        lambda store: store.write("k", b""),
        lambda store: store.create("k", b""),
        lambda store: store.replace("k", b"", None),
        lambda store: store.delete("k"),
        lambda store: store.check_exists(),
        lambda store: store.check_writable(),
    ]


def test_a_wrong_secret_is_told(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch, uses: list[Callable[[ObjectStore], object]]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = open_store(s3_uri)
    for use in uses:
        with pytest.raises(StorageError, match=r"refused the S3 keys .* check AWS_ACCESS_KEY_ID"):
            use(store)


def test_an_unknown_key_is_told(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(StorageError, match="refused the S3 keys"):
        open_store(s3_uri, must_exist=True)


def test_missing_keys_are_told(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match=f"no S3 keys for {s3_uri}: set AWS_ACCESS_KEY_ID"):
        open_store(s3_uri, must_exist=True)


def test_an_unknown_profile_is_told(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match=r"profile \(nobody\) could not be found"):
        open_store(s3_uri)


@pytest.mark.usefixtures("s3_uri")
def test_a_missing_bucket_is_told_and_not_made() -> None:
    store = open_store("s3://no-such-bucket/plant")
    for use in (
        store.check_exists,
        store.check_writable,
        lambda: store.write("k", b""),
        lambda: store.create("k", b""),
    ):
        with pytest.raises(StorageError, match=r"bucket 'no-such-bucket' does not exist at http.*create it or mend"):
            use()
    with pytest.raises(StorageError, match="does not exist"):
        open_store("s3://no-such-bucket", must_exist=True)


@pytest.mark.usefixtures("s3_uri")
def test_a_name_that_no_bucket_can_have_is_told() -> None:
    with pytest.raises(StorageError, match="Not_A_Bucket"):
        open_store("s3://Not_A_Bucket").write("k", b"")


def test_a_server_that_is_down_is_told(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch, uses: list[Callable[[ObjectStore], object]]
) -> None:
    monkeypatch.setattr(s3_module, "_CONFIG", s3_module._CONFIG.merge(Config(retries={"total_max_attempts": 1})))
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        store = open_store(s3_uri)
        for use in uses:
            with pytest.raises(StorageError, match=r"does not answer .* check AWS_ENDPOINT_URL"):
                use(store)


def test_a_server_that_never_answers_is_told(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = Config(read_timeout=0.2, retries={"mode": "standard", "total_max_attempts": 2})
    monkeypatch.setattr(s3_module, "_CONFIG", s3_module._CONFIG.merge(impatient))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StorageError, match=r"does not answer \(ReadTimeoutError\)"):
            open_store(s3_uri).read("k")


def test_waiting_for_a_dead_server_ends_within_half_a_minute() -> None:
    config = s3_module._CONFIG
    attempts = config.retries["total_max_attempts"]
    assert attempts * config.read_timeout <= 30
    assert attempts * config.connect_timeout <= 30


def test_a_connection_that_breaks_off_is_taken_up_again(
    s3_uri: str, through_proxy: Callable[[list[int]], ObjectStore]
) -> None:
    content = bytes(range(256)) * 4000
    open_store(s3_uri).write("k", content)
    store = through_proxy([300_000, 200_000])
    with store.open("k") as reader:
        assert reader.read(10) == content[:10]
        assert reader.read() == content[10:]


def test_an_object_that_changes_between_two_attempts_is_not_mixed(
    s3_uri: str, through_proxy: Callable[[list[int]], ObjectStore]
) -> None:
    direct = open_store(s3_uri)
    direct.write("k", bytes(1_000_000))
    with through_proxy([300_000]).open("k") as reader:
        reader.read(10)
        direct.write("k", b"\1" * 1_000_000)
        with pytest.raises(StorageError, match="changed by another writer"):
            reader.read()


def test_a_connection_that_does_not_come_back_is_told(
    s3_uri: str, through_proxy: Callable[[list[int]], ObjectStore]
) -> None:
    open_store(s3_uri).write("k", bytes(1_000_000))
    store = through_proxy([10_000] + [50] * 20)
    with store.open("k") as reader, pytest.raises(StorageError, match=r"breaks off at byte .* time and again"):
        reader.read()


def test_folders_that_consoles_show_are_no_objects(s3_uri: str) -> None:
    store = open_store(s3_uri)
    assert isinstance(store, s3_module.S3Store)
    store._client.put_object(Bucket=store.bucket, Key=f"{store._prefix}folder/", Body=b"")
    store.write("folder/k", b"")
    assert [info.key for info in store.list()] == ["folder/k"]
