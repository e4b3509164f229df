"""Figures of an image's pixels that are measured once for each image, ever."""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image

from components.datasets.arrays import read_image
from components.datasets.database import database_errors, open_database
from components.datasets.manifest import ImageRecord
from components.datasets.parallel import BATCH, batched, parallel_map, threads_for
from components.datasets.versions import DataRepository
from components.evaluation.resampling import Floats
from components.events import Progress

_SCHEMA = "CREATE TABLE IF NOT EXISTS figures (key TEXT PRIMARY KEY, held BLOB NOT NULL) WITHOUT ROWID;"
_MOST_THREADS = 8


def remembered(
    repository: DataRepository,
    records: Sequence[ImageRecord],
    measure: Callable[[Image.Image], Floats],
    path: Path,
    *,
    method: str,
    task: str,
) -> Floats:
    """Give figures of images, shape (N, figures); a new data version costs work for its new images alone.

    Args:
        repository: Where their bytes lie.
        records: The images, at least one.
        measure: Gives the figures of a picture, as many for each.
        path: The local database that remembers them.
        method: Part of the key: a change of what is measured needs a new one.
        task: What progress is told as.

    Raises:
        ImageError: naming the image that cannot be decoded.
        IntegrityError: if the store has lost or altered one.
        StorageError: if the database cannot be written.
    """
    with closing(open_database(path, _SCHEMA)) as database, database_errors(path):
        known: dict[str, Floats] = {}
        for record in records:
            row = database.execute("SELECT held FROM figures WHERE key = ?", (f"{record.sha256}:{method}",)).fetchone()
            if row is not None:
                known[record.sha256] = np.frombuffer(row[0])
        missing = list({record.sha256: record for record in records if record.sha256 not in known}.values())

        def work(batch: list[ImageRecord]) -> list[tuple[str, Floats]]:
            return [(record.sha256, measure(read_image(repository, record))) for record in batch]

        progress = Progress(task, len(missing), "images") if missing else None
        threads = min(_MOST_THREADS, threads_for(repository.store))
        with closing(parallel_map(work, batched(missing, BATCH), threads)) as batches:
            for batch in batches:
                rows = [(f"{sha256}:{method}", figures.tobytes()) for sha256, figures in batch]
                with database:
                    database.executemany("INSERT OR REPLACE INTO figures VALUES (?, ?)", rows)
                known |= batch
                if progress is not None:
                    progress.advance(len(batch))
    return np.stack([known[record.sha256] for record in records])
