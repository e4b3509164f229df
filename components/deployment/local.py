"""The endpoint on this machine: one server process a home, rolled out to without an interruption."""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.deployment import ports, process
from components.deployment.check import check_model, wait_until_settled
from components.endpoint.files import Status, WantedModel, read_desired, read_status, write_desired
from components.errors import DeploymentError, EndpointUnavailable, StorageError
from components.settings import ServingSettings
from components.tracking import lock_file

Models = Mapping[str, WantedModel]


@dataclass(frozen=True)
class Outcome:
    """A rollout that succeeded.

    Attributes:
        previous: What was asked for before, by model.
        started: Whether the server was started for it.
    """

    status: Status
    previous: Models
    started: bool


def folder_of(home: Path) -> Path:
    """Give the endpoint's folder of a home, made if it is missing.

    Raises:
        StorageError: if it cannot be made.
    """
    folder = home / "endpoint"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made ({error.strerror}); give another --home") from error
    return folder


def check_port(host: str, port: int, home: Path, setting: str = "port") -> None:
    """Check that a port is free, or held by this home's own endpoint.

    Raises:
        EndpointUnavailable: naming the port and the setting that chooses another.
    """
    folder = home / "endpoint"
    status = read_status(folder) if process.find(folder) else None
    if port != 0 and (status is None or port not in (status.port, status.grpc_port)):
        ports.check_free(host, port, setting)


def check_ports(settings: ServingSettings, home: Path) -> None:
    """Check that the endpoint can be started, or runs already where the settings want it.

    Raises:
        EndpointUnavailable: naming the port and the setting that chooses another.
    """
    ports.check_ports(settings, home / "endpoint")


def roll_out(home: Path, settings: ServingSettings, models: Models) -> Outcome:
    """Bring models into service beside those that serve, all of them or none.

    The running server loads them and switches; without one, one is started. Each must then answer the
    known image of its bundle over the real endpoint. Whatever goes wrong, Ctrl-C too, what was asked
    for before is asked for again, and a server that was started for it is stopped.

    Args:
        home: Whose endpoint it is. Two rollouts at once take turns.
        settings: Where it listens.
        models: By name.

    Raises:
        DeploymentError: if a model does not serve; what served before does.
        EndpointUnavailable: if the endpoint cannot have its ports.
    """
    folder = folder_of(home)
    with lock_file(folder / "lock"):
        ports.check_ports(settings, folder)
        previous = _previous(folder)
        running = process.find(folder)
        desired = write_desired(folder, {**previous, **models})
        server: subprocess.Popen[bytes] | None = None
        try:
            if running is None:
                server = process.launch(folder, settings)
                process.wait_until_up(folder, server, settings.start_timeout)
            status = wait_until_settled(folder, desired.generation, settings.start_timeout)
            for name, wanted in models.items():
                check_model(status, addresses(status)["url"], name, wanted)
        except BaseException:
            write_desired(folder, dict(previous))
            if running is None:
                process.stop(folder)
            raise
        return Outcome(status, previous, started=running is None)


def serve_foreground(home: Path, settings: ServingSettings, models: Models, announce: Callable[[Status], None]) -> int:
    """Serve models until Ctrl-C, with the server's log on the terminal.

    Args:
        home: Whose endpoint it is; rollouts that come later swap its models.
        settings: Where it listens.
        models: By name; beside those that were deployed before.
        announce: Called once, when the server listens.

    Returns:
        The server's exit code.

    Raises:
        EndpointUnavailable: if an endpoint of this home runs already, or its ports are taken.
    """
    folder = folder_of(home)
    with lock_file(folder / "lock"):
        if process.find(folder) is not None:
            url = status(home)["url"]
            raise EndpointUnavailable(f"the endpoint of {home} runs already at {url}; 'mscflow serve --stop' ends it")
        ports.check_ports(settings, folder)
        write_desired(folder, {**_previous(folder), **models})
        server = process.launch(folder, settings, foreground=True)
        try:
            found = process.wait_until_up(folder, server, settings.start_timeout)
        except BaseException:
            process.stop(folder)
            raise
    announce(found)
    return _wait(server)


def stop(home: Path) -> bool:
    """Stop the endpoint of a home.

    Returns:
        Whether one was running.
    """
    return process.stop(home / "endpoint")


def status(home: Path) -> dict[str, Any]:
    """Tell how the endpoint of a home does.

    Returns:
        ``running``; where it runs also ``url``, ``grpc_url``, ``pid``, ``ready`` and ``models``, a list of
        ``name``, ``state``, ``version``, ``digest`` and ``reason``.
    """
    folder = home / "endpoint"
    found = read_status(folder)
    running = process.find(folder)
    if running is None or found is None or found.pid != running.pid:
        return {"running": running is not None}
    models = [
        {
            "name": name,
            "state": each.state,
            "version": each.version,
            "digest": each.digest,
            "wanted_version": each.wanted.version,
            "reason": each.reason,
        }
        for name, each in found.models.items()
    ]
    return {"running": True, **addresses(found), "pid": found.pid, "ready": found.ready, "models": models}


def addresses(found: Status) -> dict[str, str]:
    """Give the URLs by which this machine reaches the endpoint."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(found.host, found.host)  # noqa: S104 - it is read, not bound
    shown = f"[{host}]" if ":" in host else host
    scheme = "https" if found.tls else "http"
    return {"url": f"{scheme}://{shown}:{found.port}", "grpc_url": f"{shown}:{found.grpc_port}"}


def _previous(folder: Path) -> Models:
    try:
        return read_desired(folder).models
    except DeploymentError:
        return {}  # nobody can serve from it; the rollout replaces it


def _wait(server: subprocess.Popen[bytes]) -> int:
    """Wait for the server's end; Ctrl-C reaches it by itself, and it then finishes what is in flight."""
    while True:
        try:
            return server.wait()
        except KeyboardInterrupt:
            continue
