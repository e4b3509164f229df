"""Servers that are away for a while, and servers that stay away."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from components import tracking
from components.audit.log import AuditLog
from components.errors import RegistryUnavailable, SettingsError, StorageError
from components.patience import patience
from components.storage import ObjectStore, open_store
from tests.servers import MlflowServer, S3Server, Server

AWAY_SECONDS = 4.0


def test_patience_is_90_seconds_or_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MSCFLOW_PATIENCE", raising=False)
    assert patience() == 90
    monkeypatch.setenv("MSCFLOW_PATIENCE", "7.5")
    assert patience() == 7.5
    for wrong in ("soon", "-1", "inf"):
        monkeypatch.setenv("MSCFLOW_PATIENCE", wrong)
        with pytest.raises(SettingsError, match=f"MSCFLOW_PATIENCE is '{wrong}'"):
            patience()


@pytest.mark.parametrize("seconds", [0, 1, 6, 30, 60, 90, 600, 3600])
def test_mlflow_s_retries_last_as_long_as_patience_and_not_much_longer(seconds: float) -> None:
    factor, retries = tracking._pauses(seconds)
    lasts = sum(0 if number == 1 else factor * 2 ** (number - 1) for number in range(1, retries + 1))
    assert seconds <= lasts <= 2 * seconds + 10
    assert retries <= 10


def away(server: Server) -> threading.Thread:
    """Kill a server, and start it again after a while."""
    server.stop()
    back = threading.Timer(AWAY_SECONDS, server.start)
    back.start()
    return back


@pytest.fixture
def own_server(start_s3_server: Callable[[], S3Server], monkeypatch: pytest.MonkeyPatch) -> S3Server:
    server = start_s3_server()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def remote(own_server: S3Server) -> ObjectStore:
    return open_store(own_server.make_bucket())


@pytest.mark.slow
def test_a_store_that_is_away_for_a_while_is_waited_for(own_server: S3Server, remote: ObjectStore) -> None:
    log = AuditLog(remote)
    log.append("x.y", "before", actor="operator-1")
    back = away(own_server)
    log.append("x.y", "after", actor="operator-1")
    back.join()
    assert [each.subject for each in log.entries()] == ["before", "after"]


@pytest.mark.slow
def test_a_store_that_stays_away_is_told_and_nothing_is_lost(
    own_server: S3Server, remote: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(remote)
    log.append("x.y", "before", actor="operator-1")
    own_server.stop()
    with monkeypatch.context() as impatient, pytest.raises(StorageError, match="does not answer"):
        impatient.setenv("MSCFLOW_PATIENCE", "1")
        log.append("x.y", "after", actor="operator-1")
    own_server.start()
    log.append("x.y", "again", actor="operator-1")
    assert [each.subject for each in log.entries()] == ["before", "again"]


def test_a_store_that_never_answered_is_told_at_once(
    own_server: S3Server, remote: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_server.stop()
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    paused: list[float] = []
    monkeypatch.setattr("components.storage.waiting.patience", lambda: paused.append(0.0) or 90.0)
    with pytest.raises(StorageError, match="does not answer"):
        remote.read("k")
    assert not paused


@pytest.mark.slow
def test_a_tracking_server_that_is_away_for_a_while_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    server = MlflowServer(tmp_path)
    server.start()
    try:
        with tracking.tracked_run(server.uri, "fit", kind="training") as run:
            back = away(server)
            run.log_metrics({"loss": 1.0})
            back.join()
        assert tracking.client(server.uri).get_run(run.id).data.metrics == {"loss": 1.0}
        server.stop()
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        with pytest.raises(RegistryUnavailable, match="does not answer"):
            run.log_metrics({"loss": 2.0})
    finally:
        server.stop()
