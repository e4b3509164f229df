"""The endpoint's process on this machine: found again, started, stopped.

``process.json`` in the endpoint's folder names the process and when it started, so that another process
which was given the same number later is not taken for it.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil

from components.endpoint.files import STATUS_FILE, Status, read_status
from components.errors import DeploymentError, EndpointUnavailable, StorageError
from components.settings import ServingSettings

PROCESS_FILE = "process.json"
LOG_FILE = "server.log"
STARTUP_FILE = "startup.log"
# Bounds on a process's start time are computed from the machine's clock, which is set now and then.
CLOCK_SECONDS = 2.0
POLL_SECONDS = 0.05
STOP_SECONDS = 40.0

# Kept, because a Popen object that goes away before its process was seen to end complains.
_started: list[subprocess.Popen[bytes]] = []


class EndpointProcess(msgspec.Struct, frozen=True):
    """A server process.

    Attributes:
        started: Seconds since 1970.
        options: What it was started with.
    """

    pid: int
    started: float
    options: list[str]


def options(settings: ServingSettings) -> list[str]:
    """Give the server's command-line options."""
    given = settings.model_dump(exclude={"start_timeout"}, exclude_none=True)
    return [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]


def find(folder: Path) -> EndpointProcess | None:
    """Give the endpoint's process if it runs; a stale ``process.json`` counts for nothing."""
    try:
        recorded = msgspec.json.decode((folder / PROCESS_FILE).read_bytes(), type=EndpointProcess)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return recorded if _handle(recorded) is not None else None


def launch(folder: Path, settings: ServingSettings, *, foreground: bool = False) -> subprocess.Popen[bytes]:
    """Start a server on the folder, without waiting for it.

    Args:
        folder: The endpoint's folder.
        settings: Where it listens and how much it takes.
        foreground: Whether it belongs to the terminal: gets its Ctrl-C, and logs to it.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    given = options(settings)
    # -P keeps a folder named `serving` in the working directory from being taken for ours.
    command = [sys.executable, "-P", "-m", "serving", "--folder", str(folder), *given]
    try:
        process = subprocess.Popen(command) if foreground else _detached(command, folder)
        _started.append(process)
        try:
            _record(folder, process.pid, given)
        except BaseException:
            process.kill()  # nobody would find it again
            raise
    except OSError as error:
        raise StorageError(f"the endpoint cannot be started in {folder}: {error}") from error
    return process


def wait_until_up(folder: Path, process: subprocess.Popen[bytes], timeout: float) -> Status:
    """Wait until the server listens and has tried its models.

    Raises:
        EndpointUnavailable: if it could not have its ports.
        DeploymentError: if it ended, or took too long.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        status = read_status(folder)
        if status is not None and status.pid == process.pid:
            return status
        code = process.poll()
        if code is not None:
            kind = EndpointUnavailable if code == EndpointUnavailable.exit_code else DeploymentError
            raise kind(f"the endpoint ended as it started: {_last_words(folder) or f'exit code {code}'}")
        time.sleep(POLL_SECONDS)
    raise DeploymentError(f"the endpoint did not start within {timeout:g} s; see {folder / LOG_FILE}")


def stop(folder: Path, timeout: float = STOP_SECONDS) -> bool:
    """Stop the endpoint: it finishes the requests in flight, and is killed if it takes too long.

    Returns:
        Whether one was running.
    """
    recorded = find(folder)
    handle = _handle(recorded) if recorded else None
    if handle is not None:
        _end(handle, timeout)
    for child in _started:
        child.poll()
    for name in (PROCESS_FILE, STATUS_FILE):
        (folder / name).unlink(missing_ok=True)
    return handle is not None


def _end(handle: psutil.Process, timeout: float) -> None:
    try:
        handle.terminate()
        handle.wait(timeout)
    except psutil.TimeoutExpired:
        handle.kill()
        handle.wait(timeout)
    except psutil.NoSuchProcess:
        return


def _handle(recorded: EndpointProcess) -> psutil.Process | None:
    try:
        handle = psutil.Process(recorded.pid)
        same = abs(handle.create_time() - recorded.started) < CLOCK_SECONDS
        return handle if same and handle.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _detached(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one and its terminal."""
    environment = {name: value for name, value in os.environ.items() if name != "MSCFLOW_EVENTS"}
    with (folder / STARTUP_FILE).open("wb") as output:
        return subprocess.Popen(
            [*command, "--log", str(folder / LOG_FILE)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
        )


def _record(folder: Path, pid: int, given: list[str]) -> None:
    try:
        started = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        started = time.time()
    (folder / PROCESS_FILE).write_bytes(msgspec.json.encode(EndpointProcess(pid, started, given)))


def _last_words(folder: Path) -> str:
    text = (folder / STARTUP_FILE).read_text(errors="replace") if (folder / STARTUP_FILE).exists() else ""
    return text.strip().splitlines()[-1] if text.strip() else ""
