"""The data steps of the pipeline: plain functions that work without KFP."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from components.culture import ABNORMAL_MODEL, Modality
from components.datasets.importers import find_images
from components.datasets.unchanged import Seen, listing_digest
from components.datasets.versions import DataRepository, Snapshot
from components.events import Progress
from components.settings import DataSettings, SplitSettings
from components.storage import ObjectStore, open_store

if TYPE_CHECKING:
    from components.datasets.quality import Finding

_REPORTED_FINDINGS = 50


def snapshot(
    source_uri: str, store_uri: str, settings: DataSettings, modality: Modality | None, home: Path
) -> dict[str, Any]:
    """Record what a source holds now as a data version; only new images are read and stored.

    Args:
        source_uri: Folder or ``s3://`` prefix of the images.
        store_uri: Where data versions live.
        settings: The lineage's name, and whether unlabelled images are kept.
        modality: Images of another modality are left out; None keeps all, and gives none to those that tell none.
        home: Where digests of files that were read before are remembered.

    Returns:
        ``data_version``, ``ref`` (the lineage), ``images``, ``new_images``, ``changed``, ``layout`` and
        ``left_out`` (counts by reason).

    Raises:
        DataError: if the source holds no images, none can be used, or naming what is wrong in its metadata.
        StorageError: if the source cannot be read or the store not be written.
    """
    ref = settings.ref or lineage_name(source_uri)
    source, store = open_store(source_uri, must_exist=True), open_store(store_uri)
    store.check_writable()
    taken = take(
        source,
        store,
        home,
        ref=ref,
        message=f"snapshot of {source.uri}",
        modality=modality,
        unlabelled=settings.unlabelled,
    )
    return {
        "data_version": taken.snapshot.version,
        "ref": ref,
        "images": taken.snapshot.images,
        "new_images": taken.snapshot.new_images,
        "changed": taken.snapshot.changed,
        "layout": taken.layout,
        "left_out": taken.left_out,
    }


class Taken(NamedTuple):
    """What was taken from a source, and what of it was left out, counted by reason."""

    snapshot: Snapshot
    layout: str
    left_out: dict[str, int]


def take(
    source: ObjectStore,
    store: ObjectStore,
    home: Path,
    *,
    ref: str,
    message: str,
    modality: Modality | None = None,
    unlabelled: bool = False,
    layout: str | None = None,
    extend: bool = False,
) -> Taken:
    """Make a data version of what a source holds; see ``DataRepository.snapshot`` and ``find_images``.

    Where the source lists as it did when the ref's present version was made of it, nothing of it is read.
    """
    repository = DataRepository(store, cache=home / "cache")
    options = (ref, modality, unlabelled, layout, extend)
    with Seen(home / "cache", source, store, options) as seen:
        listing, present = listing_digest(source), repository.present(ref)
        if present is not None and (known := seen.recall(listing, present)) is not None:
            count, name, left_out = known
            Progress("snapshot", count, "images").advance(count)
            return Taken(Snapshot(present, count, 0, 0, present, False, 0), name, left_out)
        images = find_images(source, modality=modality, unlabelled=unlabelled, layout=layout)
        progress = Progress("snapshot", images.total, "images")
        made = repository.snapshot(source, images, ref=ref, message=message, extend=extend, progress=progress)
        if images.listing.value == listing.value:
            seen.remember(listing, made.version, (made.images, images.layout, images.left_out))
    return Taken(made, images.layout, images.left_out)


def validate(store_uri: str, data_version: str, settings: DataSettings, home: Path) -> dict[str, Any]:
    """Quarantine what cannot be learnt from; the rest becomes a data version of its own.

    All findings are written to ``quarantine/<data_version>.jsonl`` in the store.

    Args:
        store_uri: Where the version lies.
        data_version: Its id.
        settings: The limits.
        home: Where measurements are remembered.

    Returns:
        ``data_version`` (of the accepted images), ``accepted``, ``quarantined`` (counts by reason),
        ``findings`` (at most 50) and ``warnings``.

    Raises:
        DataError: if no image can be used.
        IntegrityError: if the store has lost or altered an image.
    """
    from components.datasets.quality import validate as validate_version

    store = open_store(store_uri, must_exist=True)
    repository = DataRepository(store, cache=home / "cache")
    total = sum(1 for _ in repository.records(data_version))
    progress = Progress("validate", total, "images")
    result = validate_version(repository, data_version, settings, home / "cache", progress)
    _write_findings(store, data_version, result.quarantined)
    return {
        "data_version": result.version,
        "accepted": result.accepted,
        "quarantined": result.reasons,
        "findings": msgspec.to_builtins(result.quarantined[:_REPORTED_FINDINGS]),
        "warnings": result.warnings,
    }


def split(
    store_uri: str, data_version: str, lineage: str, settings: SplitSettings, positive: Collection[str] | None = None
) -> dict[str, Any]:
    """Divide a data version into train, validation and the lineage's frozen test part.

    Args:
        store_uri: Where the version lies.
        data_version: Its id.
        lineage: Name of the series of versions that share a test part.
        settings: Shares and seed.
        positive: Labels of the boxes that are abnormal cells; None divides by confluence. Each question has a
            frozen test part of its own.

    Returns:
        ``split_id``, ``lineage``, ``counts`` (images by part and class), ``groups`` (by part), ``missing`` (frozen
        test images that the version lacks) and ``withheld`` (images in no part), as numbers.

    Raises:
        DataError: if there are too few classes, or too few groups of a class.
    """
    from components.datasets.splits import make_split

    repository = DataRepository(open_store(store_uri, must_exist=True))
    own = lineage if positive is None else f"{lineage}-{ABNORMAL_MODEL}"
    result = make_split(repository, data_version, own, settings, positive)
    return {
        "split_id": result.id,
        "lineage": own,
        "counts": result.counts,
        "groups": result.groups,
        "missing": len(result.missing),
        "withheld": len(result.withheld),
    }


def lineage_name(source_uri: str) -> str:
    """Give the default name of a lineage: the last part of its source's path."""
    path = source_uri if "://" in source_uri else str(Path(source_uri).expanduser().resolve())
    last = path.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._") or "images"


def _write_findings(store: ObjectStore, data_version: str, findings: "list[Finding]") -> None:
    lines = [msgspec.json.encode(finding) + b"\n" for finding in findings]
    store.write(f"quarantine/{data_version}.jsonl", b"".join(lines))
