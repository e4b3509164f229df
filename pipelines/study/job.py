"""What a worker process is told of one fold."""

from pathlib import Path

import msgspec

from components.culture import Modality
from pipelines.study.plan import Unit
from pipelines.study.results import path_of


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One fold and where its images, its state and its result lie.

    Attributes:
        unit: What is to be done.
        store_uri: Object store of the data versions.
        versions: Their ids.
        stray: Modality of images that tell none.
        home: Folder whose cache holds decoded images.
        out: The study's folder.
    """

    unit: Unit
    store_uri: str
    versions: tuple[str, ...]
    stray: Modality
    home: str
    out: str

    @property
    def result_path(self) -> Path:
        """Where the fold's result goes."""
        return path_of(Path(self.out), self.unit.cell, self.unit.fold.name, self.unit.key)

    @property
    def cache(self) -> Path:
        """Where decoded images are kept."""
        return Path(self.home) / "cache"

    @property
    def checkpoints(self) -> Path:
        """Where the state of this very fold is kept while it trains."""
        return Path(self.out) / "state" / self.unit.key[:16]
