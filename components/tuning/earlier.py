"""What an earlier search learned: the trials that a champion's evidence tells of, carried over to another split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from components.bundle import EVIDENCE_FILE, read_any_bundle
from components.settings import TrainingSettings

# A search of another network, of other images or of other steps tells nothing of this one.
_ALIKE = (
    *("backbone", "weights", "planes", "clumps", "equalisation", "image_size"),
    *("batch_size", "backbone_rate", "schedule", "weight_decay", "dropout"),
)
_MOST = 50
EARLIER = "earlier"


class Tried(NamedTuple):
    """A learning rate and the loss that it led to, on the validation part of its time."""

    learning_rate: float
    value: float


class _Trial(msgspec.Struct):
    lr: float
    value: float | None = None
    state: str = "complete"


class _Search(msgspec.Struct):
    trials: tuple[_Trial, ...] = ()


class _Model(msgspec.Struct):
    settings: dict[str, Any] = {}


class _Evidence(msgspec.Struct):
    model: _Model
    search: _Search | None = None


def earlier_trials(home: Path, champion: str, training: TrainingSettings) -> tuple[Tried, ...]:
    """Give the trials of the search that led to a champion, those that it had taken over itself included.

    Args:
        home: Which keeps the champion's bundle, as ``components.registry.start`` fetched it.
        champion: Digest of the champion; empty if there is none.
        training: Of the search to come; the trials of another kind of training are not given.

    Raises:
        IntegrityError: if the bundle is not what it was.
    """
    if not champion:
        return ()
    folder = home / "models" / champion
    read_any_bundle(folder, champion)
    evidence = msgspec.json.decode((folder / EVIDENCE_FILE).read_bytes(), type=_Evidence)
    wanted, had = training.model_dump(mode="json"), evidence.model.settings
    if evidence.search is None or any(had.get(name) != wanted[name] for name in _ALIKE):
        return ()
    told = [trial for trial in evidence.search.trials if trial.state in ("complete", EARLIER)]
    return tuple(Tried(trial.lr, trial.value) for trial in told if trial.value is not None)[-_MOST:]


def best(trials: Sequence[Tried]) -> Tried:
    """Give the trial with the least loss."""
    return min(trials, key=lambda trial: trial.value)


def shifted(trials: Sequence[Tried], anew: float) -> list[Tried]:
    """Carry trials over to other validation images, by what their best came to when it was tried there anew."""
    shift = anew - best(trials).value
    return [Tried(trial.learning_rate, trial.value + shift) for trial in trials]
