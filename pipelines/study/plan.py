"""What a study has to do: its cells, each with its folds, each of which can be made or found by itself."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec

from components.culture import Modality, Task
from components.datasets.boxed import is_abnormal
from components.datasets.folds import By, Fold, make_folds
from components.datasets.manifest import ImageRecord
from components.errors import DataError
from components.settings import DetectionSettings, SearchSettings, Settings, TrainingSettings
from pipelines.study.images import serving
from pipelines.study.options import Protocol, StudyOptions
from pipelines.study.results import Cell

# Raised when the same settings and images would come to another result.
_METHOD = 1
_BY: dict[Protocol, By] = {"grouped": "group", "published": "image", "left_out": "source"}

_WANTED = {Task.CONFLUENCE: "a confluence class", Task.ABNORMAL_CELLS: "a box around an abnormal cell"}
_TABLES = {Task.CONFLUENCE: "Table 1", Task.ABNORMAL_CELLS: "Table 2"}

# Of one task and modality: its images, and how each protocol cuts them.
Part = tuple[Task, Modality]


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """One fold of one cell: what is trained, scored and kept by itself.

    Attributes:
        key: Digest of all that its result depends on.
        fold: The images, as indexes into those that serve the cell's task and modality.
        training: Fields of ``TrainingSettings``; a learning rate of None is searched.
        search: Fields of ``SearchSettings``.
        detection: Fields of ``DetectionSettings``.
    """

    key: str
    cell: Cell
    fold: Fold
    training: dict[str, Any]
    search: dict[str, Any]
    detection: dict[str, Any]

    @property
    def settings(self) -> TrainingSettings:
        """How it is trained."""
        return TrainingSettings.model_validate(self.training)

    @property
    def searching(self) -> SearchSettings:
        """How its learning rate is searched."""
        return SearchSettings.model_validate(self.search)

    @property
    def detecting(self) -> DetectionSettings:
        """How its detector looks."""
        return DetectionSettings.model_validate(self.detection)

    @property
    def trials(self) -> int:
        """Trials of the search; none where the learning rate is fixed."""
        return 0 if self.training["learning_rate"] else int(self.search["trials"])


@dataclass(frozen=True)
class Plan:
    """All that a study does.

    Attributes:
        units: In the order in which they are begun.
        records: The images of each task and modality.
        folds: How each protocol cuts them.
        notes: What was asked for and cannot be done, in sentences.
    """

    units: tuple[Unit, ...]
    records: Mapping[Part, Sequence[ImageRecord]]
    folds: Mapping[tuple[Part, Protocol], tuple[Fold, ...]]
    notes: tuple[str, ...] = field(default=())


def make_plan(options: StudyOptions, records: Sequence[ImageRecord]) -> Plan:
    """Cut folds and list every cell's.

    Args:
        options: What the study is asked to do.
        records: All its images, each with its modality.

    Raises:
        DataError: if no task can be served, or there are too few groups for the folds.
        SettingsError: if a backbone's weights cannot be found.
    """
    notes: list[str] = []
    there = {part: serving(records, *part) for part in _parts(options)}
    parts = {part: found for part, found in there.items() if _usable(options, part, found)}
    _check_parts(options, parts, notes)
    folds = {
        (part, protocol): _cut(options, protocol, part, found)
        for part, found in parts.items()
        for protocol in options.protocols
    }
    units = tuple(
        _unit(options, cell, fold, parts[cell.task, cell.modality])
        for part in parts
        for cell in _cells(options, part, notes)
        for fold in folds[part, _protocol(cell)]
    )
    return Plan(units, parts, folds, tuple(notes))


def _parts(options: StudyOptions) -> Iterator[Part]:
    for task in options.tasks:
        # Abnormal cells are looked for where single cells can be seen (PAPER: Tasks).
        there = tuple(Modality) if task == Task.CONFLUENCE else (Modality.SINGLE_STACK,)
        for modality in options.modalities or tuple(Modality):
            if modality in there:
                yield task, modality


def _usable(options: StudyOptions, part: Part, records: Sequence[ImageRecord]) -> bool:
    if part[0] == Task.CONFLUENCE:
        return bool(records)
    return any(is_abnormal(record, options.detection.detection.positive) for record in records)


def _check_parts(options: StudyOptions, parts: Mapping[Part, Sequence[ImageRecord]], notes: list[str]) -> None:
    if not parts:
        wanted = " or ".join(_WANTED[task] for task in options.tasks)
        among = f" of modality {' or '.join(options.modalities)}" if options.modalities else ""
        raise DataError(
            f"no image{among} in {', '.join(options.sources)} has {wanted}; name classes in labels.csv (columns "
            "file,class) or by folders 1 to 4, boxes in boxes.csv, and their labels with --positive"
        )
    tasks, modalities = {part[0] for part in parts}, {part[1] for part in parts}
    lacking = (task for task in options.tasks if task not in tasks)
    notes.extend(f"No image has {_WANTED[task]}, so there is no {_TABLES[task]}." for task in lacking)
    absent = (modality for modality in options.modalities or () if modality not in modalities)
    notes.extend(f"No image of modality {modality} can be used." for modality in absent)


def _cells(options: StudyOptions, part: Part, notes: list[str]) -> Iterator[Cell]:
    task, modality = part
    backbones = options.backbones if task == Task.CONFLUENCE else _detecting(options.backbones, notes)
    # Clumps hide what lies under them in stacked flasks (PAPER: open questions).
    clumps = options.clumps if modality == Modality.MULTI_STACK else ("kept",)
    equalisations = options.equalisations if task == Task.CONFLUENCE else ("none",)
    for backbone in backbones:
        for equalisation in equalisations:
            for masked in clumps:
                for protocol in options.protocols:
                    yield Cell(
                        task=task,
                        modality=modality,
                        backbone=backbone,
                        protocol=protocol,
                        equalisation=equalisation,
                        clumps=masked,
                    )


def _detecting(backbones: Sequence[str], notes: list[str]) -> list[str]:
    from components.models.pyramid import PYRAMIDS

    able = [name for name in backbones if name in PYRAMIDS]
    if not able:
        some = ", ".join(PYRAMIDS)
        notes.append(f"None of the chosen backbones can find cells, so there is no Table 2; those that can: {some}.")
    return able


def _protocol(cell: Cell) -> Protocol:
    return next(protocol for protocol in _BY if protocol == cell.protocol)


def _cut(options: StudyOptions, protocol: Protocol, part: Part, records: Sequence[ImageRecord]) -> tuple[Fold, ...]:
    task, modality = part
    strata = None
    if task == Task.ABNORMAL_CELLS:
        positive = options.detection.detection.positive
        strata = [int(is_abnormal(record, positive)) for record in records]
    try:
        return make_folds(
            records,
            folds=options.folds,
            seed=options.settings.split.seed,
            by=_BY[protocol],
            validation_fraction=options.settings.split.validation_fraction,
            column=options.leave_out or "source",
            strata=strata,
        )
    except DataError as error:
        raise DataError(f"{modality}, {task}: {error}") from error


def _unit(options: StudyOptions, cell: Cell, fold: Fold, records: Sequence[ImageRecord]) -> Unit:
    chosen = options.settings if cell.task == Task.CONFLUENCE else options.detection
    training = training_of(chosen, cell, seed=chosen.training.seed + _number(fold))
    plain = training.model_dump(mode="json")
    search = chosen.search.model_dump(mode="json")
    detection = chosen.detection.model_dump(mode="json")
    sides = (fold.train, fold.validation, fold.test)
    matters = {
        "method": _METHOD,
        "cell": msgspec.to_builtins(cell),
        "images": [[_content(records[row], cell.task) for row in side] for side in sides],
        # What the settings leave to the code is told as it is.
        "training": plain | {"processes": 1, "augmentations": training.chosen_augmentations},
        "search": None if training.learning_rate else search | {"storage": None},
        "detection": detection if cell.task == Task.ABNORMAL_CELLS else None,
        "weights": _weights(cell.backbone, training.weights),
        "torch": _torch(),
    }
    key = hashlib.sha256(json.dumps(matters, sort_keys=True).encode()).hexdigest()
    return Unit(key=key, cell=cell, fold=fold, training=plain, search=search, detection=detection)


def training_of(settings: Settings, cell: Cell, seed: int) -> TrainingSettings:
    """Give the settings that the folds of a cell are trained with."""
    changes = {
        "backbone": cell.backbone,
        "clumps": cell.clumps,
        "equalisation": cell.equalisation,
        "seed": seed,
        "processes": 1,
    }
    return TrainingSettings.model_validate(settings.training.model_dump() | changes)


def _number(fold: Fold) -> int:
    """Another seed for each fold; values that are left out are told apart by their names."""
    return int(fold.name) - 1 if fold.name.isdecimal() else int(hashlib.sha256(fold.name.encode()).hexdigest()[:4], 16)


def _content(record: ImageRecord, task: Task) -> list[Any]:
    told = record.confluence_class if task == Task.CONFLUENCE else msgspec.to_builtins(record.boxes)
    return [record.sha256, told]


@cache
def _weights(backbone: str, wish: str) -> str | None:
    from components.models.weights import find_weights

    return find_weights(backbone, wish).sha256


@cache
def _torch() -> str:
    import torch

    return str(torch.__version__)
