import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from components import tracking
from components.errors import InputError, RegistryError, RegistryUnavailable
from components.settings import Settings


def test_a_run_keeps_what_it_was_given(mlflow_uri: str, tmp_path: Path):
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "loss.csv").write_text("1,0.5\n")
    with tracking.tracked_run(
        mlflow_uri, "fit", kind="training", params={"seed": 3, "sgd": {"lr": 0.1}}, tags={"data_version": "d" * 64}
    ) as run:
        for epoch in range(3):
            run.log_metrics({"loss": 1.0 / (epoch + 1), "accuracy": epoch / 10}, step=epoch)
        run.log_files(tmp_path / "curves", "curves")
    client = tracking.client(mlflow_uri)
    kept = client.get_run(run.id)
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {"seed": "3", "sgd.lr": "0.1"}
    assert kept.data.tags["data_version"] == "d" * 64
    assert kept.data.tags["kind"] == "training"
    assert kept.data.tags["code_version"]
    assert kept.data.tags["env.python"] == ".".join(map(str, sys.version_info[:3]))
    assert [(m.step, m.value) for m in client.get_metric_history(run.id, "loss")] == [(0, 1), (1, 0.5), (2, 1 / 3)]
    fetched = Path(client.download_artifacts(run.id, "curves", str(tmp_path)))
    assert (fetched / "loss.csv").read_text() == "1,0.5\n"


def test_runs_nest_in_the_one_that_the_environment_names(mlflow_uri: str, monkeypatch: pytest.MonkeyPatch):
    parent = tracking.start_parent(mlflow_uri, "nesting", "pipeline", {"source": "x"})
    monkeypatch.setenv(tracking.RUN_ID_VARIABLE, parent)
    with tracking.tracked_run(mlflow_uri, "trial 0", kind="trial") as first:
        pass
    with tracking.tracked_run(mlflow_uri, "fit", kind="training", parent=first.id) as inner:
        pass
    tracking.end_parent(mlflow_uri, parent, "FINISHED")
    client = tracking.client(mlflow_uri)
    outer, middle, last = (client.get_run(each) for each in (parent, first.id, inner.id))
    assert middle.data.tags["mlflow.parentRunId"] == parent
    assert last.data.tags["mlflow.parentRunId"] == first.id
    assert outer.info.experiment_id == middle.info.experiment_id == last.info.experiment_id
    assert outer.info.status == "FINISHED"


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")])
def test_what_ends_a_run_early_shows_in_its_status(sqlite_uri: str, error: BaseException, status: str):
    with pytest.raises(type(error)), tracking.tracked_run(sqlite_uri, "fit", kind="training") as run:
        raise error
    assert tracking.client(sqlite_uri).get_run(run.id).info.status == status


def test_many_parameters_go_in_several_requests(mlflow_uri: str):
    many = {f"p{number}": number for number in range(250)}
    with tracking.tracked_run(mlflow_uri, "fit", kind="training", params=many) as run:
        pass
    assert len(tracking.client(mlflow_uri).get_run(run.id).data.params) == 250


def test_an_unknown_parent_is_named(mlflow_uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(tracking.RUN_ID_VARIABLE, "f" * 32)
    with (
        pytest.raises(RegistryError, match=r"starting run 'fit' failed: .*ffff") as caught,
        tracking.tracked_run(mlflow_uri, "fit", kind="training"),
    ):
        pass
    assert not isinstance(caught.value, InputError)


def test_artifacts_lie_beside_the_database(sqlite_uri: str, tmp_path: Path):
    source = tmp_path / "out"
    source.mkdir()
    (source / "a.txt").write_text("a")
    with tracking.tracked_run(sqlite_uri, "fit", kind="training") as run:
        run.log_files(source)
    artifacts = tmp_path / "home" / tracking.ARTIFACTS_FOLDER
    assert [path.name for path in artifacts.rglob("*.txt")] == ["a.txt"]


def test_a_home_may_have_any_name(tmp_path: Path):
    home = tmp_path / "Jürgen's home, a#b+c&d? 100%25"
    tracking.start_parent(Settings(home=home).mlflow_uri, "x", "run", {})
    assert (home / "mlflow.db").stat().st_size > 0


def test_a_server_that_is_down_is_one_sentence():
    with (
        pytest.raises(RegistryUnavailable) as caught,
        tracking.tracked_run("http://127.0.0.1:9", "fit", kind="training"),
    ):
        pass
    assert str(caught.value) == (
        "the MLflow server http://127.0.0.1:9 does not answer (opening it); start it, or unset MLFLOW_TRACKING_URI "
        "to use the local registry"
    )
    assert caught.value.exit_code == 2


@contextmanager
def wire_to(uri: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """A way to a server that can be cut: gives its URI, and what cuts it."""
    target = urlsplit(uri)
    listener = socket.create_server(("127.0.0.1", 0))
    open_ends: list[socket.socket] = [listener]

    def carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                sink.sendall(received)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection((target.hostname, target.port))
                open_ends.extend((near, far))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=ends, daemon=True).start()

    def cut() -> None:
        for end in open_ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", cut
    finally:
        cut()


@pytest.mark.slow
def test_a_server_that_goes_away_in_mid_run_is_one_sentence(mlflow_server: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with (
        wire_to(mlflow_server) as (uri, cut),
        pytest.raises(RegistryUnavailable) as caught,
        tracking.tracked_run(uri, "fit", kind="training") as run,
    ):
        cut()
        run.log_metrics({"loss": 1.0})
    assert str(caught.value).startswith(f"the MLflow server {uri} does not answer (logging metrics of run {run.id})")


@pytest.mark.slow
def test_what_failed_is_told_even_if_the_server_cannot_be(mlflow_server: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with (
        wire_to(mlflow_server) as (uri, cut),
        pytest.raises(ValueError, match="the real reason"),
        tracking.tracked_run(uri, "fit", kind="training"),
    ):
        cut()
        raise ValueError("the real reason")


def test_passwords_do_not_reach_messages():
    with pytest.raises(RegistryError) as caught:
        tracking.start_parent("http://ada:secret@127.0.0.1:9", "x", "run", {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:"])
def test_a_uri_without_a_file_is_refused(uri: str):
    with pytest.raises(RegistryUnavailable, match="names no file"):
        tracking.client(uri)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    (tmp_path / "mlflow.db").write_text("not a database" * 100)
    with pytest.raises(RegistryUnavailable, match="not a database"):
        tracking.client(f"sqlite:///{tmp_path}/mlflow.db")


def test_a_home_that_cannot_be_made_is_bad_input(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        tracking.client(f"sqlite:///{tmp_path}/file/mlflow.db")


FIRST_START = """
import os, sys
from components import tracking

assert "mlflow" not in sys.modules
tracking.client(sys.argv[2])  # so that no child still has to import MLflow
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        with tracking.tracked_run(sys.argv[1], "fit", kind="training") as run:
            run.log_metrics({"loss": 1.0})
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.mark.slow
def test_processes_may_start_a_fresh_home_at_once_and_say_nothing(empty_mlflow: Path, tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/a home/mlflow.db"
    command = [sys.executable, "-c", FIRST_START, uri, f"sqlite:///{empty_mlflow}"]
    started = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    client = tracking.client(uri)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 4
    left = {path.name for path in (tmp_path / "a home").iterdir()}
    assert left == {"mlflow.db", "mlflow.db.lock"}
