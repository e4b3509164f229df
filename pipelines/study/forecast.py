"""How long a study still takes, from the epochs that it has measured."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from components.culture import Task
from pipelines.study.plan import Unit
from pipelines.study.results import FoldResult

# Billions of multiply-adds for one image of 224 pixels: how backbones compare until each was measured.
_COST = {
    "alexnet": 0.7,
    "cover_net": 0.18,
    "efficientnet_lite0": 0.4,
    "inception_v3": 2.9,
    "mobilenet_v3": 0.22,
    "resnet50": 4.1,
    "shufflenet_v2": 0.58,
    "vit": 4.4,
}
_Kind = tuple[Task, str]


@dataclass(frozen=True)
class Left:
    """What is left of a study, in seconds.

    Attributes:
        likely: With folds that stop as early as those before them did; None before anything was measured.
        most: With every epoch that the settings allow.
        guessed: Whether backbones are among it that were not measured yet.
    """

    likely: float | None
    most: float | None
    guessed: bool


@dataclass
class Forecast:
    """Keeps count of epochs and their seconds.

    Attributes:
        units: Folds that are to be made.
        processes: Folds that are made at a time.
    """

    units: Mapping[str, Unit]
    processes: int
    done: set[str] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=dict)
    trials: dict[str, int] = field(default_factory=dict)
    _seconds: dict[_Kind, float] = field(default_factory=dict)
    _images: dict[_Kind, int] = field(default_factory=dict)
    _used: list[float] = field(default_factory=list)
    _begun: dict[str, float] = field(default_factory=dict)
    _overheads: list[float] = field(default_factory=list)

    def begun(self, key: str, now: float) -> None:
        """Note when a fold was begun, in seconds of any clock."""
        self._begun[key] = now

    def epoch(self, key: str, number: int, seconds: float) -> None:
        """Count an epoch and the seconds that it took."""
        unit = self.units[key]
        self.epochs[key] = number
        self.trials[key] = unit.trials
        self._measured(unit, len(unit.fold.train), seconds)

    def trial(self, key: str, done: int) -> None:
        """Count the trials that a fold's search has finished."""
        self.trials[key] = done

    def found(self, key: str, result: FoldResult) -> None:
        """Count a fold that was made before."""
        self._measured(self.units[key], result.images["train"] * len(result.history), result.seconds)
        self.finished(key, result)

    def _measured(self, unit: Unit, images: int, seconds: float) -> None:
        kind = _kind(unit)
        self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds
        self._images[kind] = self._images.get(kind, 0) + images

    def finished(self, key: str, result: FoldResult | None, now: float | None = None) -> None:
        """Count a fold as made, or as failed; with the time, count too what it took beside its epochs."""
        self.done.add(key)
        if result is None:
            return
        unit = self.units[key]
        self._used.append(len(result.history) / unit.training["epochs"])
        if now is not None and key in self._begun and _kind(unit) in self._seconds:
            rounds = len(result.history) + unit.trials * int(unit.search["epochs"])
            measured = rounds * len(unit.fold.train) * self._rate(_kind(unit))
            self._overheads.append(max(0.0, now - self._begun[key] - measured))

    def left(self, keys: Iterable[str] | None = None) -> Left:
        """Tell how long all folds, or some of them, still take."""
        open_units = [self.units[key] for key in (self.units if keys is None else keys) if key not in self.done]
        if not open_units:
            return Left(0.0, 0.0, False)
        if not self._seconds:
            return Left(None, None, True)
        used = sum(self._used) / len(self._used) if self._used else 1.0
        return Left(
            self._together(
                open_units, lambda unit: max(used * unit.training["epochs"], self.epochs.get(unit.key, 0) + 1)
            ),
            self._together(open_units, lambda unit: unit.training["epochs"]),
            any(_kind(unit) not in self._seconds for unit in open_units),
        )

    def _together(self, units: list[Unit], epochs: Callable[[Unit], float]) -> float:
        each = [self._one(unit, epochs(unit)) for unit in units]
        # No fold is shared, so that the longest one bounds them all.
        return max(sum(each) / min(self.processes, len(each)), *each)

    def _one(self, unit: Unit, epochs: float) -> float:
        trials = unit.trials - self.trials.get(unit.key, 0)
        rounds = max(epochs - self.epochs.get(unit.key, 0), 0) + trials * int(unit.search["epochs"])
        # Starting, loading and scoring; what a fold in work has had of it is not known.
        beside = sum(self._overheads) / len(self._overheads) if self._overheads and unit.key not in self._begun else 0.0
        return beside + rounds * len(unit.fold.train) * self._rate(_kind(unit))

    def _rate(self, kind: _Kind) -> float:
        """Seconds an image and epoch; of a backbone that was not measured, by its cost beside those that were."""
        if kind in self._seconds:
            return self._seconds[kind] / self._images[kind]
        known = [(self._seconds[each] / self._images[each]) / _COST.get(each[1], 1.0) for each in self._seconds]
        return _COST.get(kind[1], 1.0) * sum(known) / len(known)


def _kind(unit: Unit) -> _Kind:
    return unit.cell.task, unit.cell.backbone


def told(seconds: float) -> str:
    """Say a span of time as people do."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
