"""A study as parameters of its pipeline, and back again in the steps, which see nothing else of it."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from components.culture import Modality, Task
from components.formats import Clumps, Equalisation
from components.settings import Settings, load_settings
from pipelines.study.options import Protocol, StudyOptions

# What a study takes of the settings; where a step's own home, store and servers are, its environment says.
_SECTIONS = ("data", "split", "search", "training", "detection")


def study_arguments(options: StudyOptions) -> dict[str, Any]:
    """Give the parameters of the study's pipeline."""
    asked: dict[str, Any] = {
        "tasks": list(options.tasks),
        "backbones": list(options.backbones),
        "protocols": list(options.protocols),
        "equalisations": list(options.equalisations),
        "clumps": list(options.clumps),
        "folds": options.folds,
    }
    if options.modalities is not None:  # KFP knows no null
        asked["modalities"] = list(options.modalities)
    if options.leave_out is not None:
        asked["leave_out"] = options.leave_out
    return {
        "sources": list(options.sources),
        "store": options.settings.store_uri,
        "asked": asked,
        "settings": _told(options.settings),
        "detecting": _told(options.detection),
    }


def options_of(
    sources: Sequence[str],
    store: str,
    asked: Mapping[str, Any],
    settings: Mapping[str, Any],
    detecting: Mapping[str, Any],
) -> StudyOptions:
    """Give the options that ``study_arguments`` told, with this step's own home.

    Raises:
        SettingsError: if they are none.
    """
    own = load_settings(**settings, store=store)
    modalities = asked.get("modalities")
    return StudyOptions(
        sources=tuple(sources),
        tasks=tuple(Task(task) for task in asked["tasks"]),
        backbones=tuple(asked["backbones"]),
        modalities=None if modalities is None else tuple(Modality(modality) for modality in modalities),
        protocols=_chosen(Protocol, asked["protocols"]),
        leave_out=asked.get("leave_out"),
        equalisations=_chosen(Equalisation, asked["equalisations"]),
        clumps=_chosen(Clumps, asked["clumps"]),
        folds=int(asked["folds"]),  # KFP makes a float of it
        out=own.home / "study",
        settings=own,
        detection=load_settings(**detecting, store=store),
    )


def _chosen(known: Any, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(name for name in get_args(known) if name in names)


def _told(settings: Settings) -> dict[str, Any]:
    plain = settings.model_dump(mode="json", exclude_none=True)
    return {name: plain[name] for name in ("preset", "task", "modality", *_SECTIONS)}
