"""A training in the object store, where any machine finds it: what to do, how far it got, what came of it.

trainings/<id>/job.json           the job; the id is its fingerprint
trainings/<id>/weights.<suffix>   the first weights
trainings/<id>/checkpoint-...pt   the state after the last epoch
trainings/<id>/result/<file>      the model and its record
trainings/<id>/result.json        the SHA-256 of each of these, written last
trainings/<id>/failure.json       why it failed, where the job itself is why
"""

import json
import re
from contextlib import suppress
from pathlib import Path

from components.bundle import file_digest
from components.errors import IntegrityError, MscflowError, ObjectNotFound, SettingsError, StorageError
from components.models.weights import Weights
from components.storage import ObjectStore, open_store
from components.training.failure import decode_failure, encode_failure
from components.training.job import Job, parse_job
from components.training.sent import fetch_file, send_weights

_URI = re.compile(r"(?P<store>.+)/trainings/(?P<id>[0-9a-f]{16})/job\.json")
_RESULT = "result.json"
_FAILURE = "failure.json"


class StoredTraining:
    """One training that lies in a store.

    Attributes:
        id: Sixteen hexadecimal digits; equal jobs have the same.
        uri: What ``python -m components.training --job`` takes.
    """

    def __init__(self, store: ObjectStore, training_id: str) -> None:
        self.store, self.id = store, training_id
        base = store.uri if "://" in store.uri else f"file://{store.uri}"
        self.prefix = f"trainings/{training_id}/"
        self.uri = f"{base}/{self.prefix}job.json"

    @classmethod
    def put(cls, job: Job) -> "StoredTraining":
        """Put a job and its first weights into its store; a failure that an earlier try left is forgotten.

        The checkpoint and the result of the same job stay, so that it goes on, or is done. A tracking database that is
        a file of this machine is left out.

        Raises:
            SettingsError: if the first weights cannot be found.
            StorageError: if the store cannot be written.
        """
        weights = job.first_weights()
        training = cls(open_store(job.store_uri), job.fingerprint(weights))
        training.store.delete(training.prefix + _FAILURE)
        sent = send_weights(weights, training.store, training.prefix)
        tracked = job.mlflow_uri if (job.mlflow_uri or "").startswith("http") else None
        posted = job.model_copy(update={"first": sent, "mlflow_uri": tracked})
        training.store.write(f"{training.prefix}job.json", posted.model_dump_json(indent=2).encode() + b"\n")
        return training

    @classmethod
    def at(cls, uri: str) -> "StoredTraining":
        """Find a training by its ``uri``.

        Raises:
            SettingsError: if it is not one.
            StorageError: if it names no kind of store.
        """
        match = _URI.fullmatch(uri)
        if match is None:
            raise SettingsError(f"--job '{uri}' is not the URI of a job: STORE/trainings/<16 digits>/job.json")
        return cls(open_store(match["store"]), match["id"])

    def job(self, home: Path) -> Job:
        """Read the job, to be done in a home of this machine.

        Raises:
            SettingsError: if there is none, or it is not one.
        """
        try:
            content = self.store.read(f"{self.prefix}job.json")
        except ObjectNotFound as error:
            raise SettingsError(f"--job '{self.uri}' does not exist; start the training again") from error
        job, home = parse_job(content, self.uri), home.absolute()
        return job.model_copy(update={"home": home, "output": home / "trainings" / self.id})

    def checkpoint_key(self, job: Job, weights: Weights) -> str:
        """Give the key of the state of this very training, by this machine's libraries."""
        return f"{self.prefix}checkpoint-{job.fingerprint(weights)}.pt"

    def put_result(self, folder: Path) -> None:
        """Put what a training made into the store; it counts once all of it is there.

        Raises:
            StorageError: if the store cannot be written.
        """
        made = {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file()}
        for name in made:
            self.store.write(f"{self.prefix}result/{name}", folder / name)
        self.store.write(self.prefix + _RESULT, json.dumps(made).encode())

    @property
    def finished(self) -> bool:
        """Whether there is a whole result."""
        return self.store.stat(self.prefix + _RESULT) is not None

    def fetch_result(self, folder: Path) -> bool:
        """Bring what a training made into a local folder, and say whether it was there.

        Raises:
            IntegrityError: if a file is not what was put there.
            StorageError: if the store or the disk cannot be used.
        """
        try:
            made = json.loads(self.store.read(self.prefix + _RESULT))
        except ObjectNotFound:
            return False
        for name, sha256 in made.items():
            if Path(name).name != name:
                raise IntegrityError(f"'{name}' in {self.prefix}{_RESULT} of {self.store.uri} names no file; delete it")
            fetch_file(self.store, f"{self.prefix}result/{name}", sha256, folder / name)
        return True

    def leave_failure(self, error: MscflowError) -> None:
        """Leave word why the job cannot be done; the first of several processes tells the cause."""
        with suppress(StorageError):
            self.store.create(self.prefix + _FAILURE, encode_failure(error))

    @property
    def failure(self) -> MscflowError | None:
        """Why the job cannot be done, however often it is tried; None where nothing was left."""
        try:
            return decode_failure(self.store.read(self.prefix + _FAILURE))
        except ObjectNotFound:
            return None

    def remove(self) -> None:
        """Remove all of it; removing what is not there is no error."""
        for found in list(self.store.list(self.prefix)):
            self.store.delete(found.key)
