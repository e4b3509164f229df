"""Train, validation and test: stratified by class, whole by group, with sides kept for life.

splits/<id>.jsonl              a header, then a row an image; its id is the SHA-256 of its bytes
splits/frozen/<lineage>.json   see ``frozen``
"""

import gc
import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from components.culture import CLASSES
from components.datasets.boxed import check_labels, is_abnormal
from components.datasets.frozen import Frozen, FrozenImage, read_frozen, write_frozen
from components.datasets.manifest import ImageRecord
from components.datasets.refs import is_ref_name
from components.datasets.sides import LEAST_GROUPS, PARTS, Part, SidedImage, divide
from components.datasets.versions import DataRepository
from components.errors import ConflictError, DataError, IntegrityError, ObjectNotFound
from components.settings import SplitSettings

_ATTEMPTS = 20
LEARNT: tuple[Part, ...] = ("train", "validation")


class Split(msgspec.Struct, frozen=True):
    """How a data version is divided.

    Attributes:
        id: The split's digest.
        version: The data version.
        lineage: Whose frozen test part it has.
        counts: Images of each part by class ('1' to '4'), or by whether they show an abnormal cell.
        groups: Groups of each part.
        missing: Paths of frozen test images that this version lacks.
        withheld: Paths of images in no part: they share a group with frozen test images, but a
            model may have learnt from them.
    """

    id: str
    version: str
    lineage: str
    counts: dict[str, dict[str, int]]
    groups: dict[str, int]
    missing: list[str]
    withheld: list[str]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str
    lineage: str
    missing: list[str]
    withheld: list[str]


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    part: Part


# How a split for abnormal cells counts its images.
ABNORMAL, CLEAN = "abnormal", "clean"


def make_split(
    repository: DataRepository,
    version: str,
    lineage: str,
    settings: SplitSettings,
    positive: Collection[str] | None = None,
) -> Split:
    """Divide the labelled images of a data version and store the split.

    Images of one group, and images with the same bytes, are in one part. Sides are kept for life: test images of an
    earlier version of the lineage stay test images, what a model was trained on never becomes a test or a validation
    image, and what models were chosen by becomes a training image only where a class would have none.
    The same version and settings give the same split as long as the lineage has no other versions.

    Args:
        repository: Where the version lies.
        version: Its id.
        lineage: Name of the series of versions that share a test part.
        settings: Shares and seed.
        positive: Labels of the boxes that are abnormal cells: the images that were searched for boxes are divided,
            stratified by whether they show one. None divides those with a confluence class, stratified by it.

    Raises:
        DataError: if there are too few classes, or too few groups of a class.
        ConflictError: if other processes kept changing the lineage.
    """
    if not is_ref_name(lineage):
        raise DataError(f"'{lineage}' cannot name a lineage; use letters, digits, '.', '-' and '_'")
    with _no_cycles():
        images = _labelled(repository, version) if positive is None else _searched(repository, version, positive)
        for _ in range(_ATTEMPTS):
            frozen, tag = read_frozen(repository.store, lineage)
            parts = divide(images, frozen, settings)
            learnt = {part: list(_names(images, parts, part)) for part in LEARNT}
            grown = frozen.extended(_of(images, parts, "test"), learnt["train"], learnt["validation"])
            try:
                if grown != frozen:
                    write_frozen(repository.store, grown, tag)
            except ConflictError:
                continue
            return _store(repository, _header(version, frozen, images, parts), images, parts)
    raise ConflictError(f"lineage '{lineage}' was changed by others {_ATTEMPTS} times in a row; try again")


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Spare the search for cycles, of which rows have none: for a million of them it takes a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def load_split(repository: DataRepository, split_id: str) -> dict[str, list[ImageRecord]]:
    """Give the images of each part, ascending by path.

    Raises:
        DataError: if there is no such split.
        IntegrityError: if it was altered.
    """
    lines = _read(repository, split_id).splitlines()
    header = msgspec.json.decode(lines[0], type=_Header)
    decode = msgspec.json.Decoder(_Row).decode
    part_of = {row.path: row.part for row in map(decode, lines[1:])}
    records: dict[str, list[ImageRecord]] = {part: [] for part in PARTS}
    for record in repository.records(header.version):
        if (part := part_of.get(record.path)) is not None:
            records[part].append(record)
    return records


def _labelled(repository: DataRepository, version: str) -> list[SidedImage]:
    images = [
        SidedImage(
            record.path,
            record.sha256,
            record.split_group,
            record.confluence_class - 1,
            str(int(record.confluence_class)),
        )
        for record in repository.records(version)
        if record.confluence_class is not None
    ]
    classes = sorted({image.label + 1 for image in images})
    if len(classes) < 2:
        there = f"only class {classes[0]} among its {len(images)} images" if classes else "no image with a class"
        raise DataError(f"data version {version[:12]} has {there}; a classifier needs at least 2 classes")
    return images


def _searched(repository: DataRepository, version: str, positive: Collection[str]) -> list[SidedImage]:
    records = [record for record in repository.records(version) if record.boxes is not None]
    check_labels(records, positive)
    shown = [is_abnormal(record, positive) for record in records]
    clean = {record.split_group for record, abnormal in zip(records, shown, strict=True) if not abnormal}
    # A few images without an abnormal cell need not be on every side; a few with one must.
    stratified = len(clean) >= LEAST_GROUPS
    return [
        SidedImage(
            record.path,
            record.sha256,
            record.split_group,
            int(stratified and not abnormal),
            ABNORMAL if abnormal else CLEAN,
        )
        for record, abnormal in zip(records, shown, strict=True)
    ]


def _of(images: Sequence[SidedImage], parts: Sequence[Part | None], part: Part) -> Iterator[FrozenImage]:
    for image, its in zip(images, parts, strict=True):
        if its == part:
            yield FrozenImage(image.path, image.sha256, image.group)


def _names(images: Sequence[SidedImage], parts: Sequence[Part | None], part: Part) -> Iterator[tuple[str, str]]:
    for image, its in zip(images, parts, strict=True):
        if its == part:
            yield image.group, image.sha256


def _header(version: str, frozen: Frozen, images: Sequence[SidedImage], parts: Sequence[Part | None]) -> _Header:
    present = {image.sha256 for image in images}
    missing = [image.path for image in frozen.test if image.sha256 not in present]
    withheld = [image.path for image, part in zip(images, parts, strict=True) if part is None]
    return _Header(version, frozen.lineage, missing, withheld)


def _store(
    repository: DataRepository, header: _Header, images: Sequence[SidedImage], parts: Sequence[Part | None]
) -> Split:
    of_classes = {str(int(label)): 0 for label in CLASSES}
    kinds = of_classes if {image.kind for image in images} <= set(of_classes) else {ABNORMAL: 0, CLEAN: 0}
    counts: dict[str, dict[str, int]] = {part: dict(kinds) for part in PARTS}
    groups: dict[str, set[str]] = {part: set() for part in PARTS}
    rows: list[_Header | _Row] = [header]
    for image, part in zip(images, parts, strict=True):
        if part is not None:
            rows.append(_Row(image.path, part))
            counts[part][image.kind] += 1
            groups[part].add(image.group)
    content = msgspec.json.Encoder().encode_lines(rows)
    split_id = hashlib.sha256(content).hexdigest()
    repository.store.create(_key(split_id), content)
    sizes = {part: len(names) for part, names in groups.items()}
    return Split(split_id, header.version, header.lineage, counts, sizes, header.missing, header.withheld)


def _read(repository: DataRepository, split_id: str) -> bytes:
    try:
        content = repository.store.read(_key(split_id))
    except ObjectNotFound as error:
        raise DataError(f"{repository.store.uri} holds no split {split_id}; make one from a data version") from error
    if hashlib.sha256(content).hexdigest() != split_id:
        raise IntegrityError(f"{_key(split_id)} of {repository.store.uri} was altered; restore it from a copy")
    return content


def _key(split_id: str) -> str:
    return f"splits/{split_id}.jsonl"
