"""What a study is asked to do, checked before anything is read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from components.culture import Modality, Task
from components.datasets.folds import MOST_FOLDS
from components.errors import SettingsError
from components.formats import Clumps, Equalisation
from components.settings import Settings

ALL = "all"
Protocol = Literal["grouped", "published", "left_out"]
# What the command line's --protocol means.
PROTOCOLS: dict[str, tuple[Protocol, ...]] = {
    "grouped": ("grouped",),
    "published": ("published",),
    "both": ("grouped", "published"),
}

_Name = TypeVar("_Name", bound=str)


@dataclass(frozen=True)
class StudyOptions:
    """One study.

    Attributes:
        sources: Folders, ``s3://`` prefixes, refs or ids of data versions.
        tasks: What is trained; a task that the images cannot serve is left out, with a note.
        modalities: Whose images are used; None for those of whichever modality there are.
        protocols: How folds are cut; ``left_out`` where ``leave_out`` is given.
        leave_out: Column of which one value at a time is left out, such as ``source`` or ``donor``.
        settings: Of the classifiers.
        detection: Of the detectors.
    """

    sources: tuple[str, ...]
    tasks: tuple[Task, ...]
    backbones: tuple[str, ...]
    modalities: tuple[Modality, ...] | None
    protocols: tuple[Protocol, ...]
    leave_out: str | None
    equalisations: tuple[Equalisation, ...]
    clumps: tuple[Clumps, ...]
    folds: int
    out: Path
    settings: Settings
    detection: Settings

    def __post_init__(self) -> None:
        if not 2 <= self.folds <= MOST_FOLDS:
            raise SettingsError(f"--folds {self.folds} is not possible; take 2 to {MOST_FOLDS}")

    @property
    def stray_modality(self) -> Modality:
        """What images count as that do not tell their modality."""
        if self.modalities is not None and len(self.modalities) == 1:
            return self.modalities[0]
        return self.settings.modality


def parse_backbones(text: str) -> tuple[str, ...]:
    """Read ``--backbones``: names with commas between them, or ``all``.

    Raises:
        SettingsError: if a backbone is unknown.
    """
    from components.models.backbones import names

    return _names("--backbones", text, names())


def parse_modalities(text: str) -> tuple[Modality, ...] | None:
    """Read ``--modalities``; None for ``all``.

    Raises:
        SettingsError: if one is unknown.
    """
    return None if text == ALL else _names("--modalities", text, tuple(Modality))


def parse_tasks(text: str) -> tuple[Task, ...]:
    """Read ``--task``.

    Raises:
        SettingsError: if one is unknown.
    """
    return _names("--task", text, tuple(Task))


def parse_equalisations(text: str) -> tuple[Equalisation, ...]:
    """Read ``--equalisation``.

    Raises:
        SettingsError: if one is unknown.
    """
    return _names("--equalisation", text, get_args(Equalisation))


def parse_clumps(text: str) -> tuple[Clumps, ...]:
    """Read ``--clumps``: kept, masked or both.

    Raises:
        SettingsError: if it is none of them.
    """
    return _names("--clumps", ALL if text == "both" else text, get_args(Clumps))


def _names(option: str, text: str, known: Sequence[_Name]) -> tuple[_Name, ...]:
    if text == ALL:
        return tuple(known)
    given = _unique(name.strip() for name in text.split(",") if name.strip())
    if not given:
        raise SettingsError(f"{option} '{text}' names nothing; give {', '.join(known)} or all")
    by_name = {str(each): each for each in known}
    for name in given:
        if name not in by_name:
            raise SettingsError(f"{option} '{name}' is not one of {', '.join(known)} or all")
    return tuple(by_name[name] for name in given)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
