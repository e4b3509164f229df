"""The images of a study: data versions, and which of their images serve a task and modality."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from components.culture import Modality, Task
from components.datasets import steps
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.errors import DataError
from components.settings import Settings
from components.storage import open_store


@dataclass(frozen=True)
class Gathered:
    """What a study's sources hold.

    Attributes:
        versions: Data versions of the images that are fit for use, in the order of the sources.
        quarantined: Images left out, by reason.
    """

    versions: tuple[str, ...]
    quarantined: dict[str, int]


def gather(sources: Sequence[str], settings: Settings) -> Gathered:
    """Make a validated data version of each source; what was read before is not read again.

    Args:
        sources: Folders, ``s3://`` prefixes, refs, or ids of data versions.
        settings: Store, home, and the limits of validation.

    Raises:
        DataError: if a source is none of these, or none of its images can be used.
    """
    open_store(settings.store_uri).check_writable()
    data = settings.data.model_copy(update={"unlabelled": True})
    versions, quarantined = [], dict[str, int]()
    for source in sources:
        found = steps.validate(settings.store_uri, _version(source, settings), data, settings.home)
        versions.append(found["data_version"])
        for reason, count in found["quarantined"].items():
            quarantined[reason] = quarantined.get(reason, 0) + count
    return Gathered(tuple(versions), quarantined)


def _version(source: str, settings: Settings) -> str:
    if "://" in source or Path(source).expanduser().exists():
        data = settings.data.model_copy(update={"unlabelled": True})
        return str(steps.snapshot(source, settings.store_uri, data, None, settings.home)["data_version"])
    try:
        return DataRepository(open_store(settings.store_uri)).resolve(source)
    except DataError as error:
        raise DataError(
            f"--data '{source}' is no folder, and {str(error).partition(';')[0]}; check the path"
        ) from error


def records_of(repository: DataRepository, versions: Iterable[str], stray: Modality) -> list[ImageRecord]:
    """Give the images of data versions, each image once.

    Args:
        repository: Holds them.
        versions: Their ids.
        stray: The modality of images that tell none.
    """
    records, seen = [], set[str]()
    for version in versions:
        for record in repository.records(version):
            if record.sha256 not in seen:
                seen.add(record.sha256)
                records.append(record if record.modality else msgspec.structs.replace(record, modality=stray))
    return records


def serving(records: Iterable[ImageRecord], task: Task, modality: Modality) -> list[ImageRecord]:
    """Choose the images that tell something of a task: those with a class, or those that were searched for cells."""
    chosen = (record for record in records if record.modality == modality)
    if task == Task.CONFLUENCE:
        return [record for record in chosen if record.confluence_class is not None]
    return [record for record in chosen if record.boxes is not None]
