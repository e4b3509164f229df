"""Train, validation and test: stratified by class, whole by group, with a test part kept for life.

splits/<id>.jsonl              a header, then a row an image; its id is the SHA-256 of its bytes
splits/frozen/<lineage>.json   see ``frozen``
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from components.culture import CLASSES
from components.datasets.boxed import check_labels, is_abnormal
from components.datasets.division import Ints, Mask, count_table, draw, units_of
from components.datasets.frozen import Frozen, FrozenImage, read_frozen, write_frozen
from components.datasets.manifest import ImageRecord
from components.datasets.refs import is_ref_name
from components.datasets.versions import DataRepository
from components.errors import ConflictError, DataError, IntegrityError, ObjectNotFound
from components.settings import SplitSettings

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

_ATTEMPTS = 20
_LEAST_GROUPS = 3


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


class _Image(NamedTuple):
    path: str
    sha256: str
    group: str
    label: int
    kind: str


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

    Images of one group, and images with the same bytes, are in one part. Test images of an earlier
    version of the lineage stay test images, and what a model may have learnt from never becomes one.
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
    images = _labelled(repository, version) if positive is None else _searched(repository, version, positive)
    for _ in range(_ATTEMPTS):
        frozen, tag = read_frozen(repository.store, lineage)
        parts = _divide(images, frozen, settings)
        grown = frozen.extended(_of(images, parts, "test"), _learnt(images, parts))
        try:
            if grown != frozen:
                write_frozen(repository.store, grown, tag)
        except ConflictError:
            continue
        return _store(repository, _header(version, frozen, images, parts), images, parts)
    raise ConflictError(f"lineage '{lineage}' was changed by others {_ATTEMPTS} times in a row; try again")


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


def _labelled(repository: DataRepository, version: str) -> list[_Image]:
    images = [
        _Image(
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


def _searched(repository: DataRepository, version: str, positive: Collection[str]) -> list[_Image]:
    records = [record for record in repository.records(version) if record.boxes is not None]
    check_labels(records, positive)
    shown = [is_abnormal(record, positive) for record in records]
    clean = {record.split_group for record, abnormal in zip(records, shown, strict=True) if not abnormal}
    # A few images without an abnormal cell need not be on every side; a few with one must.
    stratified = len(clean) >= _LEAST_GROUPS
    return [
        _Image(
            record.path,
            record.sha256,
            record.split_group,
            int(stratified and not abnormal),
            ABNORMAL if abnormal else CLEAN,
        )
        for record, abnormal in zip(records, shown, strict=True)
    ]


def _divide(images: Sequence[_Image], frozen: Frozen, settings: SplitSettings) -> list[Part | None]:
    """Give the part of each image, or None for one that is withheld."""
    units = units_of((image.group for image in images), (image.sha256 for image in images))
    tested, learnt = _settled(images, frozen)
    in_test, known = _units_with(tested, units), _units_with(learnt, units)
    table = count_table(units, np.array([image.label for image in images], np.int64))
    names = {image.label: image.kind for image in reversed(images)}
    _check_groups(table, in_test, names, has_test=bool(in_test.any()))
    chosen = _draw_test(table, in_test, known, settings)
    side = np.full(len(table), "train", object)
    side[chosen] = "test"
    side[~chosen] = np.where(_draw_validation(table, chosen, settings), "validation", "train")
    return [None if side[unit] == "test" and held else side[unit] for unit, held in zip(units, learnt, strict=True)]


def _settled(images: Sequence[_Image], frozen: Frozen) -> tuple[Mask, Mask]:
    """Tell of each image whether the lineage has tested with it or its group, and whether it has learnt from it."""
    test_groups, test_images = {image.group for image in frozen.test}, {image.sha256 for image in frozen.test}
    groups, contents = set(frozen.learnt_groups), set(frozen.learnt_images)
    tested = [image.sha256 in test_images or image.group in test_groups for image in images]
    learnt = [image.sha256 in contents or image.group in groups for image in images]
    return np.array(tested), np.array(learnt)


def _units_with(images: Mask, units: Ints) -> Mask:
    result = np.zeros(int(units.max()) + 1, bool)
    result[units[images]] = True
    return result


def _check_groups(table: Ints, in_test: Mask, names: Mapping[int, str], *, has_test: bool) -> None:
    free = (table[~in_test] > 0).sum(axis=0)
    needed = _LEAST_GROUPS - 1 if has_test else _LEAST_GROUPS
    for label in np.flatnonzero(table.sum(axis=0)):
        if free[label] < needed:
            beside = " beside the frozen test part" if has_test else ""
            parts = "train and validation need" if has_test else "train, validation and test need"
            raise DataError(
                f"class {names[int(label)]} has images in {free[label]} group(s) or vessel(s){beside}, but {parts} at "
                f"least one each; add images of this class from {needed - free[label]} more, or remove the class"
            )


def _draw_test(table: Ints, in_test: Mask, known: Mask, settings: SplitSettings) -> Mask:
    new = ~in_test & ~known
    held = table[in_test].sum(axis=0)
    fresh = table[new].sum(axis=0)
    # Its share of what is new, and what it still lacks of what is old, for instance because earlier
    # batches were single vessels.
    earlier = settings.test_fraction * (table.sum(axis=0) - fresh)
    target = _whole(np.maximum(held, earlier) + settings.test_fraction * fresh, table)
    kept: Ints = (table[known & ~in_test] > 0).sum(axis=0)
    leave = np.maximum(_LEAST_GROUPS - 1 - kept, 0) * _present(table)
    chosen = in_test.copy()
    if new.any():
        drawn = draw(
            table[new],
            share=settings.test_fraction,
            held=held,
            target=target,
            leave=leave,
            optional=bool(in_test.any()),
            seed=settings.seed,
        )
        chosen[new] = _found(drawn)
    return chosen


def _draw_validation(table: Ints, in_test: Mask, settings: SplitSettings) -> Mask:
    free = table[~in_test]
    share = settings.validation_fraction / (1 - settings.test_fraction)
    drawn = draw(
        free,
        share=share,
        held=np.zeros(table.shape[1], np.int64),
        target=_whole(settings.validation_fraction * table.sum(axis=0), table),
        leave=_present(free),
        optional=False,
        seed=settings.seed,
    )
    return _found(drawn)


def _whole(target: NDArray[np.float64], table: Ints) -> Ints:
    """Round a target, but ask for at least one image of each class that there is."""
    return np.maximum(np.rint(target).astype(np.int64), _present(table))


def _present(table: Ints) -> Ints:
    """Give 1 for each class that there is, else 0."""
    present: Ints = np.minimum(table.sum(axis=0), 1)
    return present


def _found(drawn: Mask | None) -> Mask:
    if drawn is None:
        raise DataError("no division leaves every class in train; add vessels, or change the settings' section split")
    return drawn


def _of(images: Sequence[_Image], parts: Sequence[Part | None], part: Part) -> Iterator[FrozenImage]:
    for image, its in zip(images, parts, strict=True):
        if its == part:
            yield FrozenImage(image.path, image.sha256, image.group)


def _learnt(images: Sequence[_Image], parts: Sequence[Part | None]) -> Iterator[tuple[str, str]]:
    for image, part in zip(images, parts, strict=True):
        if part in ("train", "validation"):
            yield image.group, image.sha256


def _header(version: str, frozen: Frozen, images: Sequence[_Image], parts: Sequence[Part | None]) -> _Header:
    present = {image.sha256 for image in images}
    missing = [image.path for image in frozen.test if image.sha256 not in present]
    withheld = [image.path for image, part in zip(images, parts, strict=True) if part is None]
    return _Header(version, frozen.lineage, missing, withheld)


def _store(
    repository: DataRepository, header: _Header, images: Sequence[_Image], parts: Sequence[Part | None]
) -> Split:
    of_classes = {str(int(label)): 0 for label in CLASSES}
    kinds = of_classes if {image.kind for image in images} <= set(of_classes) else {ABNORMAL: 0, CLEAN: 0}
    counts: dict[str, dict[str, int]] = {part: dict(kinds) for part in PARTS}
    groups: dict[str, set[str]] = {part: set() for part in PARTS}
    lines = [msgspec.json.encode(header)]
    for image, part in zip(images, parts, strict=True):
        if part is not None:
            lines.append(msgspec.json.encode(_Row(image.path, part)))
            counts[part][image.kind] += 1
            groups[part].add(image.group)
    content = b"\n".join(lines) + b"\n"
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
