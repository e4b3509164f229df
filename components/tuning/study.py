"""The Optuna study behind a search: where it is kept, how it samples, when it prunes."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from components.errors import SettingsError, StorageError
from components.models.weights import Weights
from components.settings import SearchSettings, TrainingSettings
from components.tracking import lock_file
from components.tuning.earlier import EARLIER, Tried, best, shifted

PARAMETER = "learning_rate"
DIVERGED = "diverged"

# Tried before anything is sampled, so that a small budget is not spent on hopeless rates alone. On
# five grouped splits of 179 real images the mean validation accuracy was 0.83 here, 0.75 at 3e-4, and
# no better than chance at 2.5e-3.
FIRST_GUESS = 1e-3
# Trials before TPE follows the better ones; Optuna's own 10 would make a short search a random one.
_STARTUP = 4
_PASSWORD = re.compile(r"://[^/]*@")
# Raised when a trial comes to mean something else, so that older trials must not be counted.
_TRIAL = 1


def search_digest(
    split_id: str,
    search: SearchSettings,
    training: TrainingSettings,
    weights: Weights,
    earlier: Sequence[Tried] = (),
) -> str:
    """Give the identity of a search: the digest of all that a trial's outcome depends on.

    The number of trials is not part of it, so that a search can be made longer.
    """
    what: dict[str, object] = {
        "trial": [_TRIAL, FIRST_GUESS],
        "split": split_id,
        "search": search.model_dump(mode="json", exclude={"trials", "storage"}),
        "training": training.model_dump(mode="json", exclude={"epochs", "patience", "learning_rate", "processes"}),
        "weights": weights.sha256,
        "torch": str(torch.__version__),
    }
    if earlier:
        what["earlier"] = [list(trial) for trial in earlier]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


class Study:
    """An Optuna study whose trials each hang on the seed and on how many were finished before.

    So a search that was killed and goes on suggests what an undisturbed one would have. In a database
    that several processes share, a trial hangs on how many were started, so that no two are equal.

    Where an earlier search is known, its best rate is tried first. What that came to tells how much easier or harder
    the validation images are than those of its time; its other trials, shifted by as much, then guide the sampler.
    """

    def __init__(self, study: optuna.Study, settings: SearchSettings, earlier: Sequence[Tried] = ()) -> None:
        self.study, self.settings = study, settings
        self.earlier = tuple(each for each in earlier if settings.low <= each.learning_rate <= settings.high)
        self.shared = settings.storage is not None

    def finished(self) -> list[FrozenTrial]:
        """Trials that ended by themselves, in order, and no more than the settings ask for."""
        ended = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = self.study.get_trials(deepcopy=False)
        made = (trial for trial in trials if EARLIER not in trial.user_attrs)
        own = [trial for trial in made if trial.state in ended or DIVERGED in trial.user_attrs]
        return own[: self.settings.trials]

    def ask(self) -> tuple[optuna.Trial, float]:
        """Start the next trial and give its learning rate."""
        settings = self.settings
        number = len(self.study.get_trials(deepcopy=False) if self.shared else self.finished())
        self.study.sampler = _sampler(settings, number)
        if number == 0:
            self._enqueue_guess()
        else:
            self._take_over()
        trial = self.study.ask()
        return trial, trial.suggest_float(PARAMETER, settings.low, settings.high, log=settings.scale == "log")

    def _enqueue_guess(self) -> None:
        settings, waiting = self.settings, self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        guess = best(self.earlier).learning_rate if self.earlier else FIRST_GUESS
        if settings.sampler == "tpe" and settings.low <= guess <= settings.high and not waiting:
            self.study.enqueue_trial({PARAMETER: guess})

    def taken_over(self) -> list[FrozenTrial]:
        """Give the trials of the earlier search, with what they would have come to here."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if EARLIER in trial.user_attrs]

    def _take_over(self) -> None:
        first = next(iter(self.finished()), None)
        if not self.earlier or first is None or first.value is None or self.taken_over():
            return
        settings = self.settings
        kind = optuna.distributions.FloatDistribution(settings.low, settings.high, log=settings.scale == "log")
        again = best(self.earlier)
        for tried in shifted(self.earlier, first.value):
            if tried.learning_rate != again.learning_rate:
                self.study.add_trial(
                    optuna.create_trial(
                        params={PARAMETER: tried.learning_rate},
                        distributions={PARAMETER: kind},
                        value=tried.value,
                        user_attrs={EARLIER: True},
                    )
                )

    def complete(self, trial: optuna.Trial, loss: float) -> None:
        """Record the result of a trial."""
        self.study.tell(trial, loss)

    def prune(self, trial: optuna.Trial) -> None:
        """Record that a trial was given up."""
        self.study.tell(trial, state=TrialState.PRUNED)

    def diverge(self, trial: optuna.Trial, why: str) -> None:
        """Record that a trial has no result; it counts, since it would fail again."""
        trial.set_user_attr(DIVERGED, why)
        self.study.tell(trial, state=TrialState.FAIL)

    def close_dead(self) -> None:
        """Fail the trials of processes that are gone; others take their place."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(trial.number, state=TrialState.FAIL)


@contextmanager
def open_study(digest: str, settings: SearchSettings, home: Path, earlier: Sequence[Tried] = ()) -> Iterator[Study]:
    """Open or make the study of a search.

    A journal file belongs to one process at a time; a second one with the same search waits, and then
    finds it finished.

    Raises:
        SettingsError: if ``search.storage`` cannot be opened.
        StorageError: if the journal cannot be written.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if settings.storage is not None:
        yield Study(_create(digest, _database(settings.storage), settings), settings, earlier)
        return
    journal = home / "searches" / f"{digest}.journal"
    try:
        with lock_file(journal.with_suffix(".lock")):
            _mend(journal)
            kept = JournalStorage(JournalFileBackend(str(journal)))
            study = Study(_create(digest, kept, settings), settings, earlier)
            study.close_dead()
            yield study
    except OSError as error:
        raise StorageError(f"search journal {journal} cannot be written ({error}); free or unlock the disk") from error


def _create(digest: str, storage: Any, settings: SearchSettings) -> optuna.Study:
    # Two finished epochs tell enough of a rate; one finished trial is enough to compare with.
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=1)
    return optuna.create_study(
        study_name=f"mscflow-{digest}",
        storage=storage,
        pruner=pruner if settings.prune else optuna.pruners.NopPruner(),
        direction="minimize",
        load_if_exists=True,
    )


def _sampler(settings: SearchSettings, number: int) -> optuna.samplers.BaseSampler:
    seed = int(hashlib.sha256(f"{settings.seed} {number}".encode()).hexdigest()[:8], 16)
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)


def _database(url: str) -> RDBStorage:
    try:
        return RDBStorage(url)
    except (ImportError, ValueError, SQLAlchemyError) as error:
        public = _PASSWORD.sub("://***@", url)
        reason = str(error).replace(url, public).splitlines()[0]
        raise SettingsError(
            f"search.storage '{public}' cannot be opened ({reason}); see Optuna's RDBStorage"
        ) from error


def _mend(journal: Path) -> None:
    """Undo what a killed writer leaves: a lock that Optuna would wait for, and half a line."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if journal.is_file() and (content := journal.read_bytes()) and not content.endswith(b"\n"):
        with journal.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
