"""The search step: find the learning rate that does best on the validation part."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from components.errors import StorageError, TrainingError
from components.events import Progress
from components.settings import SearchSettings, TrainingSettings
from components.training.threads import wait_briefly
from components.tuning.earlier import EARLIER, Tried

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial

    from components.models.weights import Weights
    from components.tracking import Run
    from components.training.data import TrainingData
    from components.tuning.study import Study
    from components.tuning.trial import Objective


def search(
    store_uri: str,
    split_id: str,
    search: SearchSettings,
    training: TrainingSettings,
    output: Path,
    home: Path,
    mlflow_uri: str | None = None,
    earlier: Sequence[Tried] = (),
) -> dict[str, Any]:
    """Search the learning rate with short fits, each judged by its lowest validation loss.

    The loss, not the accuracy: on some tens of validation images accuracy moves in steps of several
    per cent and many rates tie, while the loss, weighted so that classes count alike, tells them
    apart and is what the final fit chooses its epoch by.

    Args:
        store_uri: The object store that holds the split and its images.
        split_id: As ``components.datasets.splits.make_split`` gave it.
        search: How to search. A search that was killed goes on, one that is finished returns at once.
        training: How to train; a ``learning_rate`` in it makes the search unnecessary.
        output: JSON file that gets every trial.
        home: Folder that keeps journals and resized images.
        mlflow_uri: Tracking server that gets a run for each trial made here; None for none.
        earlier: What an earlier search learned; see ``components.tuning.earlier``.

    Raises:
        TrainingError: if every trial diverged.
        InputError: if the settings, the split or the disk cannot be used.
    """
    if training.learning_rate is not None:
        outcome = _outcome([], search, resumed=0) | {"best_lr": training.learning_rate}
        return _write(output, outcome, [], [], search)

    wait_briefly()
    from components.models.weights import find_weights, input_of
    from components.training.data import load_data

    weights = find_weights(training.backbone, training.weights)

    def load() -> "TrainingData":
        prep = input_of(training, weights)
        return load_data(store_uri, split_id, prep, home / "cache")

    found = _trials(split_id, load, search, training, weights, home, mlflow_uri, earlier)
    return _write(output, _outcome(found.trials, search, found.resumed), found.trials, found.taken_over, search)


def find_rate(
    name: str,
    load: Callable[[], "TrainingData"],
    search: SearchSettings,
    training: TrainingSettings,
    weights: "Weights",
    home: Path,
) -> float:
    """Search the learning rate on images that are no stored split, such as a fold's; else as ``search`` does.

    Args:
        name: Of the images and their division; an equal name continues an earlier search.
        load: Gives them; not called where the search is finished already.
        search: How to search.
        training: How to train.
        weights: First weights of the backbone.
        home: Folder that keeps journals.

    Raises:
        TrainingError: if every trial diverged.
    """
    found = _trials(name, load, search, training, weights, home)
    return float(_outcome(found.trials, search, found.resumed)["best_lr"])


class _Found(NamedTuple):
    """Trials of a search, those that it took over from an earlier one, and how many of its own were there already."""

    trials: list["FrozenTrial"]
    taken_over: list["FrozenTrial"]
    resumed: int


def _trials(
    name: str,
    load: Callable[[], "TrainingData"],
    search: SearchSettings,
    training: TrainingSettings,
    weights: "Weights",
    home: Path,
    mlflow_uri: str | None = None,
    earlier: Sequence[Tried] = (),
) -> _Found:
    """Give a search's trials, making those that are missing."""
    from components.tuning.study import open_study, search_digest
    from components.tuning.trial import Objective

    with open_study(search_digest(name, search, training, weights, earlier), search, home, earlier) as study:
        resumed = len(study.finished())
        if resumed < search.trials:
            _run(study, Objective(load(), training, search.epochs, weights), mlflow_uri)
        return _Found(study.finished(), study.taken_over(), resumed)


def _run(study: "Study", objective: "Objective", mlflow_uri: str | None) -> None:
    progress = Progress("search", study.settings.trials, "trials")
    done = len(study.finished())
    progress.advance(done, _best_note(study.finished()))
    while done < study.settings.trials:
        trial, learning_rate = study.ask()
        with _tracked(mlflow_uri, done, learning_rate) as run:
            _attempt(study, trial, learning_rate, objective, run)
        done = len(study.finished())
        progress.advance(note=_best_note(study.finished()))


def _attempt(study: "Study", trial: "Trial", learning_rate: float, objective: "Objective", run: "Run | None") -> None:
    """Run one trial to its end, its pruning or its divergence, and tell the study."""
    from optuna import TrialPruned

    from components.training.fit import Epoch

    started = time.perf_counter()

    def on_epoch(epoch: Epoch) -> None:
        if run is not None:
            run.log_metrics(epoch.metrics, step=epoch.epoch)
        trial.report(epoch.validation_loss, step=epoch.epoch - 1)
        trial.set_user_attr("seconds", round(time.perf_counter() - started, 3))
        if epoch.epoch < objective.settings.epochs and trial.should_prune():
            raise TrialPruned

    try:
        fitted = objective(learning_rate, on_epoch)
    except TrialPruned:
        study.prune(trial)
    except TrainingError as error:
        study.diverge(trial, str(error))
    else:
        study.complete(trial, fitted.best.validation_loss)


def _tracked(mlflow_uri: str | None, number: int, learning_rate: float) -> AbstractContextManager["Run | None"]:
    if mlflow_uri is None:
        return nullcontext()
    from components.tracking import tracked_run

    return tracked_run(mlflow_uri, f"trial {number}", kind="trial", params={"learning_rate": learning_rate})


def _completed(trials: list["FrozenTrial"]) -> list["FrozenTrial"]:
    return [trial for trial in trials if trial.value is not None]


def _best(trials: list["FrozenTrial"]) -> "FrozenTrial | None":
    return min(_completed(trials), key=lambda trial: trial.value or 0.0, default=None)


def _best_note(trials: list["FrozenTrial"]) -> str:
    best = _best(trials)
    return "" if best is None else f"best loss {best.value:.3f} at learning rate {_rate(best):.2g}"


def _rate(trial: "FrozenTrial") -> float:
    return float(trial.params["learning_rate"])


def _outcome(trials: list["FrozenTrial"], settings: SearchSettings, resumed: int) -> dict[str, Any]:
    best = _best(trials)
    if trials and best is None:
        raise TrainingError(
            f"all {len(trials)} trials diverged at learning rates up to {max(map(_rate, trials)):.2g}; lower "
            f"search.high {settings.high:g}"
        )
    return {
        "trials": len(trials),
        "completed": len(_completed(trials)),
        "pruned": sum(trial.state.name == "PRUNED" for trial in trials),
        "best_value": best.value if best else None,
        "best_lr": _rate(best) if best else None,
        "resumed": resumed,
    }


def _write(
    output: Path,
    outcome: dict[str, Any],
    trials: list["FrozenTrial"],
    taken_over: list["FrozenTrial"],
    settings: SearchSettings,
) -> dict[str, Any]:
    rows = [
        {
            "number": number,
            "lr": _rate(trial),
            "value": min(trial.intermediate_values.values(), default=None),
            "state": trial.state.name.lower(),
            "epochs": len(trial.intermediate_values),
            "seconds": trial.user_attrs.get("seconds", 0.0),
        }
        for number, trial in enumerate(trials)
    ]
    rows += [
        {"number": number, "lr": _rate(trial), "value": trial.value, "state": EARLIER, "epochs": 0, "seconds": 0.0}
        for number, trial in enumerate(taken_over, len(rows))
    ]
    how = settings.model_dump(mode="json", include={"sampler", "scale", "seed", "prune", "epochs"})
    outcome |= {"earlier": len(taken_over)}
    record = {**outcome, **how, "range": [settings.low, settings.high], "trials": rows}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"the trials cannot be written to {output} ({error}); free or unlock the disk") from error
    return outcome
