"""The endpoint's folder: what deployments ask for, and what the server says it does.

    desired.json   models that the server shall serve; written by deployments, watched by the server
    status.json    what the server serves, and why it does not serve what it cannot; written by the server

Both files are replaced as a whole, so that a reader sees either the old or the new one.
"""

import os
import uuid
from pathlib import Path
from typing import Literal

import msgspec

from components.errors import DeploymentError, StorageError

DESIRED_FILE = "desired.json"
STATUS_FILE = "status.json"

State = Literal["loading", "ready", "failed"]


class WantedModel(msgspec.Struct, frozen=True):
    """A model version that the server shall serve.

    Attributes:
        path: Folder of its bundle.
        version: Version in the model registry.
        digest: The model's digest as the registry records it.
    """

    path: str
    version: str
    digest: str


class Desired(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the server shall serve.

    Attributes:
        models: By the name under which the model is served.
        generation: Names this writing of the file, so that its writer knows the server's answer to it.
    """

    models: dict[str, WantedModel] = {}
    generation: str = ""


class ModelStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one model does.

    Attributes:
        state: ``ready``: the wanted version serves; ``failed``: it cannot, and ``reason`` says why.
        wanted: What was asked for.
        version: Version that answers now, if any; after a failed swap it is the one before.
        digest: Its digest.
    """

    state: State
    wanted: WantedModel
    version: str | None = None
    digest: str | None = None
    reason: str | None = None


class Status(msgspec.Struct, frozen=True):
    """How the server does.

    Attributes:
        pid: Its process.
        ready: Whether it can answer.
        generation: That of the last ``desired.json`` whose models have all been tried.
        problem: Why ``desired.json`` itself could not be used.
        tls: Whether it is reached by https.
    """

    pid: int
    host: str
    port: int
    grpc_port: int
    ready: bool
    generation: str = ""
    models: dict[str, ModelStatus] = {}
    problem: str | None = None
    tls: bool = False


def read_desired(folder: Path) -> Desired:
    """Read ``desired.json``; a folder without one asks for no model.

    Raises:
        DeploymentError: if the file is not what a deployment writes.
    """
    path = folder / DESIRED_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Desired)
    except FileNotFoundError:
        return Desired()
    except (msgspec.DecodeError, OSError) as error:
        raise DeploymentError(f"{path} cannot be read: {error}; deploy a model again") from error


def write_desired(folder: Path, models: dict[str, WantedModel]) -> Desired:
    """Ask the server to serve these models, and no others.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    desired = Desired(models=models, generation=uuid.uuid4().hex)
    _replace(folder / DESIRED_FILE, desired)
    return desired


def read_status(folder: Path) -> Status | None:
    """Read ``status.json``; None where no server wrote one.

    A server that was killed leaves its last status behind: compare ``pid`` with a living process.
    """
    try:
        return msgspec.json.decode((folder / STATUS_FILE).read_bytes(), type=Status)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_status(folder: Path, status: Status) -> None:
    """Replace ``status.json``.

    Raises:
        StorageError: if the disk is full or read-only.
    """
    _replace(folder / STATUS_FILE, status)


def _replace(path: Path, content: msgspec.Struct) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written ({error.strerror}); make room or mend its permissions") from error
