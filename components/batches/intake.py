"""A batch's way in: first as a data version of its own, and into the lineage once it was screened."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.audit.entry import this_actor
from components.audit.log import AuditLog
from components.culture import Modality
from components.datasets.importers import SourceImage, find_images
from components.datasets.manifest import ImageRecord
from components.datasets.steps import validate
from components.datasets.versions import DataRepository, Snapshot
from components.errors import DataError
from components.events import Progress
from components.settings import DataSettings
from components.storage import open_store

ADMITTED = "batch.admitted"
# What a batch's own table calls its batch, where it is another than the folder that it came in.
SOURCE_BATCH = "source_batch"

_REF_LENGTH = 100
_DIGITS = 8


def intake(
    uri: str,
    name: str,
    store_uri: str,
    lineage: str,
    modality: Modality | None,
    settings: DataSettings,
    home: Path,
) -> dict[str, Any]:
    """Take a batch in as a data version of its own and quarantine what is unfit; nothing of the lineage moves.

    Images without a label are kept. Their paths begin with the batch's name, so that those of a batch that comes
    again, with other labels, take the place of those that came first.

    Args:
        uri: Folder or ``s3://`` prefix of the batch.
        name: Of the batch.
        store_uri: Where data versions live.
        lineage: That the batch is meant for.
        modality: Images of another modality are left out; None keeps all.
        settings: Limits of what is fit for use.
        home: Where digests and measurements are remembered.

    Returns:
        ``batch_version`` (of the images that are fit), ``ref``, ``images``, ``accepted``, ``quarantined`` (counts by
        reason), ``findings``, ``labelled`` (a class, or boxes), ``unlabelled``, ``new_images``, ``left_out``.

    Raises:
        DataError: if the batch holds no image that can be used, or naming what is wrong in its tables.
        StorageError: if the batch cannot be read or the store not be written.
        IntegrityError: if the store has lost or altered an image.
    """
    source, store = open_store(uri, must_exist=True), open_store(store_uri)
    store.check_writable()
    images = find_images(source, modality=modality, unlabelled=True)
    repository = DataRepository(store, cache=home / "cache")
    ref = batch_ref(lineage, name)
    progress = Progress("take the batch in", images.total, "images")
    message = f"batch {name} of {source.uri}"
    taken = repository.snapshot(source, _named(images, name), ref=ref, message=message, progress=progress)
    fit = validate(store_uri, taken.version, settings, home)
    labelled = sum(is_labelled(record) for record in repository.records(fit["data_version"]))
    return {
        "batch_version": fit["data_version"],
        "ref": ref,
        "images": taken.images,
        "accepted": fit["accepted"],
        "quarantined": fit["quarantined"],
        "findings": fit["findings"],
        "labelled": labelled,
        "unlabelled": fit["accepted"] - labelled,
        "new_images": taken.new_images,
        "left_out": images.left_out,
    }


def admit(store_uri: str, admissible: str, lineage: str, name: str, batch_id: str, home: Path) -> dict[str, Any]:
    """Add what was admitted of a batch to its lineage; doing it again changes nothing.

    Args:
        store_uri: Where data versions live.
        admissible: The version that screening found admissible.
        lineage: That is extended; it is made if there is none.
        name: Of the batch.
        batch_id: Digest of the batch's content.
        home: Where digests are remembered.

    Returns:
        ``data_version``, ``ref``, ``images`` (of the lineage), ``new_images`` (added to it by this call) and
        ``changed``.

    Raises:
        DataError: if nothing is admissible.
        ConflictError: if other writers moved the lineage again and again.
    """
    if not admissible:
        raise DataError(f"nothing of batch '{name}' was found admissible; see its screening page")
    store = open_store(store_uri, must_exist=True)
    repository = DataRepository(store, cache=home / "cache")
    moved = repository.extend(lineage, admissible, message=f"batch {name} ({batch_id[:12]})", author=this_actor())
    _tell(AuditLog(store), moved, lineage, name, batch_id, admissible)
    return {
        "data_version": moved.version,
        "ref": lineage,
        "images": moved.images,
        "new_images": _added(repository, moved),
        "changed": moved.changed,
    }


def batch_ref(lineage: str, name: str) -> str:
    """Give the ref of a batch, which holds its newest images: its name as far as a ref may have it."""
    ref = f"batches.{lineage}.{name}"
    if len(ref) <= _REF_LENGTH and re.fullmatch(r"[A-Za-z0-9._-]+", ref):
        return ref
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", ref)
    return f"{plain[: _REF_LENGTH - _DIGITS - 1]}-{digest}"


def is_labelled(record: ImageRecord) -> bool:
    """Whether somebody has said what an image shows: its class, or its cells."""
    return record.confluence_class is not None or record.boxes is not None


def _named(images: Iterable[SourceImage], name: str) -> Iterator[SourceImage]:
    for image in images:
        about = {**image.metadata, "batch": name}
        if (own := image.metadata.get("batch")) and own != name:
            about["extra"] = {**image.metadata.get("extra", {}), SOURCE_BATCH: own}
        yield replace(image, path=f"{name}/{image.path}", metadata=about)


def _added(repository: DataRepository, moved: Snapshot) -> int:
    if moved.previous is None:
        return moved.images
    return repository.diff(moved.previous, moved.version).added


def _tell(log: AuditLog, moved: Snapshot, lineage: str, name: str, batch_id: str, admissible: str) -> None:
    """Enter the admission, unless it is told already; a run that was killed between the two comes by again."""
    subject = f"{lineage}/{name}"
    if not moved.changed:
        told = (each for each in log.newest_first() if (each.action, each.subject) == (ADMITTED, subject))
        if (last := next(told, None)) is not None and last.details.get("admissible") == admissible:
            return
    details = {
        "lineage": lineage,
        "batch_id": batch_id,
        "admissible": admissible,
        "data_version": moved.version,
        "data_version_before": moved.previous if moved.changed else None,
        "images": moved.images,
    }
    log.append(ADMITTED, subject, actor=this_actor(), reason="its screening admits it", details=details)
