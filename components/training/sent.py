"""First weights that travel with a job, as the machine that trains may not have the file."""

import os
import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from components.bundle import file_digest
from components.errors import IntegrityError
from components.imaging import Preprocessing
from components.models.weights import Weights
from components.storage import ObjectStore, open_store


class SentWeights(BaseModel):
    """First weights whose file lies in the store; for the fields see ``components.models.weights.Weights``.

    Attributes:
        key: Name of the file in the store; None where training starts from random numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    key: str | None = None
    sha256: str | None = None
    note: str | None = None
    preprocessing: Preprocessing | None = None

    def fetch(self, store_uri: str, folder: Path) -> Weights:
        """Bring the file into a local folder, if it does not lie there intact.

        Raises:
            StorageError: if the store does not give it.
            IntegrityError: if it is not what was sent.
        """
        if self.key is None or self.sha256 is None:
            return Weights(self.source, note=self.note)
        path = folder / f"{self.sha256}{Path(self.key).suffix}"
        if not path.is_file() or file_digest(path) != self.sha256:
            fetch_file(open_store(store_uri), self.key, self.sha256, path)
        return Weights(self.source, path, self.sha256, self.note, self.preprocessing)


def send_weights(weights: Weights, store: ObjectStore, prefix: str) -> SentWeights:
    """Put the file of first weights under a prefix of a store."""
    key = None
    if weights.path is not None:
        key = f"{prefix}weights{weights.path.suffix}"
        store.ensure(key, weights.path, weights.path.stat().st_size)
    return SentWeights(
        source=weights.source,
        key=key,
        sha256=weights.sha256,
        note=weights.note,
        preprocessing=weights.preprocessing,
    )


def fetch_file(store: ObjectStore, key: str, sha256: str, path: Path) -> None:
    """Bring an object to a local path, as a whole.

    Raises:
        ObjectNotFound: if there is none.
        IntegrityError: if it has another digest.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with store.open(key) as reader, partial.open("wb") as file:
            shutil.copyfileobj(reader, file)
        if (actual := file_digest(partial)) != sha256:
            raise IntegrityError(f"{key} of {store.uri} has digest {actual}, not {sha256}; delete it and start again")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
