"""A data version as a folder, for people and other tools, that imports as the very same version."""

import csv
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from components.datasets.blobs import open_blob
from components.datasets.importers.cells import COLUMNS
from components.datasets.manifest import ImageRecord
from components.datasets.manifests import Manifests
from components.datasets.parallel import BATCH, batched, parallel_map, threads_for
from components.errors import StorageError
from components.events import Progress
from components.storage import LocalStore, ObjectStore, storage_errors
from components.storage.local import INTERNAL

LABELS_FILE, BOXES_FILE = "labels.csv", "boxes.csv"
_BOX_COLUMNS = ("file", "x1", "y1", "x2", "y2", "class")


def check_out(store: ObjectStore, version: str, folder: Path, progress: Progress | None = None) -> int:
    """Write the images of a version, ``labels.csv``, and ``boxes.csv`` if cells are labelled.

    The folder appears whole at the end, or not at all.

    Args:
        store: Where the version lies.
        version: Its id.
        folder: A folder that does not exist yet, or is empty.
        progress: Told of each image.

    Returns:
        The number of images.

    Raises:
        DataError: if there is no such version.
        IntegrityError: if the store's bytes are not those that the version names.
        StorageError: if the folder is in use or cannot be written.
    """
    with _appearing(folder) as partial:
        target = LocalStore(partial)
        _write_tables(Manifests(store), version, partial)

        def copy(records: list[ImageRecord]) -> int:
            for record in records:
                with closing(open_blob(store, record)) as blob:
                    target.write(record.path, blob)
            return len(records)

        batches = batched(Manifests(store).records(version), BATCH)
        images = 0
        with closing(parallel_map(copy, batches, threads_for(store))) as counts:
            for count in counts:
                images += count
                if progress is not None:
                    progress.advance(count)
        shutil.rmtree(partial / INTERNAL)
    return images


def _write_tables(manifests: Manifests, version: str, folder: Path) -> None:
    columns, extras, boxes = _used_columns(manifests.records(version))
    with storage_errors(str(folder), writing=True):
        with (folder / LABELS_FILE).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("file", *columns, *extras))
            table.writerows(_row(record, columns, extras) for record in manifests.records(version))
        if boxes:
            with (folder / BOXES_FILE).open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(_BOX_COLUMNS)
                for record in manifests.records(version):
                    table.writerows(_box_rows(record))


def _used_columns(records: Iterator[ImageRecord]) -> tuple[list[str], list[str], bool]:
    # Without a column of classes, an importer would take them from elsewhere.
    used, extras, boxes = {"class"}, set[str](), False
    for record in records:
        used |= {column for column, (field, _) in COLUMNS.items() if getattr(record, field) is not None}
        extras |= record.extra.keys()
        boxes = boxes or record.boxes is not None
    return [column for column in COLUMNS if column in used], sorted(extras), boxes


def _row(record: ImageRecord, columns: list[str], extras: list[str]) -> list[str]:
    values = [getattr(record, COLUMNS[column][0]) for column in columns]
    texts = ["" if value is None else str(value) for value in values]
    return [record.path, *texts, *(record.extra.get(name, "") for name in extras)]


def _box_rows(record: ImageRecord) -> Iterator[tuple[str, ...]]:
    if record.boxes is None:
        return
    if not record.boxes:  # looked at, and nothing found
        yield record.path, "", "", "", "", ""
    for box in record.boxes:
        yield record.path, str(box.x1), str(box.y1), str(box.x2), str(box.y2), box.label


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside the wanted one, which takes its name if all goes well."""
    folder = folder.expanduser().absolute()
    partial = folder.parent / f".{folder.name}.partial"
    with storage_errors(str(folder), writing=True):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StorageError(f"{folder} is not an empty folder; choose another, or empty it")
        partial.mkdir(parents=True, exist_ok=True)
    with _alone_in(partial):
        try:
            _empty(partial)  # what a killed checkout left
            yield partial
            with storage_errors(str(folder), writing=True):
                partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise StorageError(f"{folder} is being written by another process; wait until it is done") from error
    finally:
        os.close(lock)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
