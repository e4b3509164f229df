import json
from pathlib import Path
from typing import Any

import pytest

from components.bundle import EVIDENCE_FILE
from components.errors import IntegrityError
from components.settings import SearchSettings, TrainingSettings
from components.tuning.earlier import Tried, earlier_trials, shifted
from components.tuning.study import open_study

TRAINING = TrainingSettings(backbone="resnet50", image_size=64)
TRIALS = [
    {"lr": 1e-4, "value": 0.9, "state": "complete"},
    {"lr": 2e-3, "value": 0.5, "state": "complete"},
    {"lr": 9e-3, "value": 0.7, "state": "earlier"},
    {"lr": 5e-3, "value": 0.2, "state": "pruned"},
    {"lr": 1e-2, "value": None, "state": "fail"},
]
EARLIER = (Tried(1e-4, 0.9), Tried(2e-3, 0.5), Tried(9e-3, 0.7))


@pytest.fixture
def champion(make_bundle: Any, tmp_path: Path) -> str:
    """Digest of a champion whose evidence tells of a search."""
    digest: str = make_bundle(tmp_path / "champion")
    evidence = {"model": {"settings": TRAINING.model_dump(mode="json")}, "search": {"trials": TRIALS}}
    folder = tmp_path / "models" / digest
    folder.parent.mkdir()
    (tmp_path / "champion").rename(folder)
    (folder / EVIDENCE_FILE).write_text(json.dumps(evidence))
    return digest


def test_what_a_champions_search_learned_is_read(champion: str, tmp_path: Path) -> None:
    assert earlier_trials(tmp_path, champion, TRAINING) == EARLIER
    longer = TRAINING.model_copy(update={"epochs": 90, "learning_rate": 1e-3, "seed": 3})
    assert earlier_trials(tmp_path, champion, longer) == EARLIER


def test_the_search_of_another_training_tells_nothing(champion: str, tmp_path: Path) -> None:
    assert earlier_trials(tmp_path, champion, TRAINING.model_copy(update={"batch_size": 4})) == ()
    assert earlier_trials(tmp_path, champion, TRAINING.model_copy(update={"backbone": "alexnet"})) == ()
    assert earlier_trials(tmp_path, "", TRAINING) == ()


def test_an_altered_champion_is_refused(champion: str, tmp_path: Path) -> None:
    (tmp_path / "models" / champion / "model.onnx").write_bytes(b"another")
    with pytest.raises(IntegrityError, match=r"model\.onnx has digest"):
        earlier_trials(tmp_path, champion, TRAINING)


def test_trials_move_by_what_their_best_came_to_again() -> None:
    moved = shifted(EARLIER, 1.5)
    assert [trial.learning_rate for trial in moved] == [trial.learning_rate for trial in EARLIER]
    assert [trial.value for trial in moved] == pytest.approx([1.9, 1.5, 1.7])


def asked(home: Path, losses: Any, trials: int, earlier: tuple[Tried, ...]) -> list[float]:
    """Search a known curve and give the rates in the order in which they were tried."""
    rates = []
    settings = SearchSettings(trials=trials)
    with open_study("d", settings, home, earlier) as study:
        while len(study.finished()) < trials:
            trial, rate = study.ask()
            rates.append(rate)
            study.complete(trial, losses(rate))
        assert len(study.taken_over()) == (len(earlier) - 1 if trials > 1 and earlier else 0)
    return rates


def test_the_best_earlier_rate_is_tried_first_and_the_others_count_as_no_trials(tmp_path: Path) -> None:
    assert asked(tmp_path, lambda rate: rate, 3, EARLIER)[0] == 2e-3


def test_a_search_that_goes_on_takes_over_once(tmp_path: Path) -> None:
    asked(tmp_path, lambda rate: rate, 2, EARLIER)
    assert len(asked(tmp_path, lambda rate: rate, 4, EARLIER)) == 2


def test_two_trials_with_an_earlier_search_come_nearer_than_two_alone(tmp_path: Path) -> None:
    def loss(rate: float) -> float:
        return abs(float(f"{rate / 6e-3:.6g}") - 1) if rate < 6e-3 else rate / 6e-3 - 1

    # The same curve on easier images: twenty earlier trials around its least.
    rates = [10 ** (-4 + number * 0.1) for number in range(20)]
    earlier = tuple(Tried(rate, loss(rate) + 0.3) for rate in rates)
    alone = min(map(loss, asked(tmp_path / "alone", loss, 2, ())))
    helped = min(map(loss, asked(tmp_path / "helped", loss, 2, earlier)))
    assert helped < alone


def test_rates_beyond_the_range_are_left_out(tmp_path: Path) -> None:
    settings = SearchSettings(trials=1, low=1e-3, high=5e-3)
    with open_study("d", settings, tmp_path, EARLIER) as study:
        assert study.earlier == (Tried(2e-3, 0.5),)
