import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from components.errors import SettingsError, StorageError
from components.models.weights import Weights
from components.settings import SearchSettings, TrainingSettings
from components.tuning.study import FIRST_GUESS, open_study, search_digest

WEIGHTS = Weights("none")


def rates(settings: SearchSettings, home: Path, count: int, digest: str = "d") -> list[float]:
    """Run trials whose loss is lowest at 1e-3."""
    with open_study(digest, settings, home) as study:
        for _ in range(count):
            trial, rate = study.ask()
            study.complete(trial, abs(math.log10(rate) + 3))
        return [trial.params["learning_rate"] for trial in study.finished()]


def test_tpe_starts_at_a_sensible_rate_and_samples_on_the_logarithm(tmp_path: Path) -> None:
    found = rates(SearchSettings(trials=30), tmp_path, 30)
    assert found[0] == FIRST_GUESS
    assert all(1e-8 <= rate <= 1e-2 for rate in found)
    late = [abs(math.log10(rate) + 3) for rate in found[15:]]
    assert sorted(late)[len(late) // 2] < 1, "later trials gather where the loss is low"


def test_the_study_of_the_paper_samples_uniformly_at_random(tmp_path: Path) -> None:
    settings = SearchSettings(trials=40, sampler="random", scale="linear")
    found = rates(settings, tmp_path, 40)
    assert found[0] != FIRST_GUESS
    assert sum(rate > 5e-3 for rate in found) in range(10, 31)
    assert min(found) > 1e-6


def test_the_guess_stays_within_the_range(tmp_path: Path) -> None:
    settings = SearchSettings(trials=1, low=1e-6, high=1e-5)
    assert 1e-6 <= rates(settings, tmp_path, 1)[0] <= 1e-5


def test_a_search_that_goes_on_asks_what_an_undisturbed_one_would(tmp_path: Path) -> None:
    settings = SearchSettings(trials=8)
    whole = rates(settings, tmp_path / "a", 8)
    rates(settings, tmp_path / "b", 3)
    with open_study("d", settings, tmp_path / "b") as study:
        study.ask()  # and the process dies
    assert rates(settings, tmp_path / "b", 5) == whole


def test_the_dead_are_closed_and_do_not_count(tmp_path: Path) -> None:
    settings = SearchSettings(trials=3)
    with open_study("d", settings, tmp_path) as study:
        study.ask()
    with open_study("d", settings, tmp_path) as study:
        assert study.finished() == []
        assert [trial.state for trial in study.study.trials] == [TrialState.FAIL]


def test_pruned_and_diverged_trials_count(tmp_path: Path) -> None:
    with open_study("d", SearchSettings(trials=3), tmp_path) as study:
        study.prune(study.ask()[0])
        study.diverge(study.ask()[0], "no number")
        states = [trial.state for trial in study.finished()]
    assert states == [TrialState.PRUNED, TrialState.FAIL]


def test_a_shorter_search_looks_at_the_first_trials_alone(tmp_path: Path) -> None:
    found = rates(SearchSettings(trials=5), tmp_path, 5)
    assert rates(SearchSettings(trials=2), tmp_path, 0) == found[:2]


def test_what_a_killed_writer_leaves_is_mended(tmp_path: Path) -> None:
    settings = SearchSettings(trials=4)
    found = rates(settings, tmp_path, 2)
    journal = tmp_path / "searches" / "d.journal"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "worker')
    journal.with_name("d.journal.lock").symlink_to(journal)
    assert rates(settings, tmp_path, 2)[:2] == found


def test_a_trial_far_behind_the_others_is_pruned_after_its_second_epoch(tmp_path: Path) -> None:
    for prune, expected in ((True, [False, True]), (False, [False, False])):
        with open_study(f"prune-{prune}", SearchSettings(trials=2, prune=prune), tmp_path) as study:
            first, _ = study.ask()
            for epoch, loss in enumerate((1.0, 0.9, 0.8)):
                first.report(loss, epoch)
            study.complete(first, 0.8)
            second, _ = study.ask()
            verdicts = []
            for epoch, loss in enumerate((1.4, 1.4)):
                second.report(loss, epoch)
                verdicts.append(second.should_prune())
        assert verdicts == expected


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"backbone": "resnet50"}},
        {"training": {"batch_size": 4}},
        {"search": {"epochs": 9}},
        {"search": {"sampler": "random"}},
        {"split_id": "other"},
        {"weights": Weights("file a", Path("a"), "0" * 64)},
    ],
)
def test_whatever_changes_a_trial_makes_another_search(change: dict[str, Any]) -> None:
    assert digest() != digest(**change)


def test_what_changes_no_trial_keeps_the_search() -> None:
    assert digest() == digest(search={"trials": 99}) == digest(training={"epochs": 99, "patience": 3, "processes": 2})


def digest(**changes: Any) -> str:
    return search_digest(
        changes.get("split_id", "split"),
        SearchSettings(**changes.get("search", {})),
        TrainingSettings(**changes.get("training", {})),
        changes.get("weights", WEIGHTS),
    )


def test_a_database_serves_as_well(tmp_path: Path) -> None:
    settings = SearchSettings(trials=3, storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    assert len(set(rates(settings, tmp_path, 3))) == 3
    assert len(rates(settings, tmp_path, 0)) == 3
    assert not (tmp_path / "searches").exists()


def test_two_that_share_a_database_try_different_rates(tmp_path: Path) -> None:
    settings = SearchSettings(trials=4, sampler="random", storage=f"sqlite:///{tmp_path / 'optuna.db'}")
    with open_study("d", settings, tmp_path) as one, open_study("d", settings, tmp_path) as other:
        asked = [study.ask()[1] for study in (one, other, one, other)]
    assert len(set(asked)) == 4


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all.db", "unknown://host/name"])
def test_a_storage_that_cannot_be_opened_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"search.storage '.*' cannot be opened"):
        rates(SearchSettings(storage=url), tmp_path, 1)


def test_a_databases_password_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'unknown://\*\*\*@host/name' cannot be opened") as caught:
        rates(SearchSettings(storage="unknown://operator:secret@host/name"), tmp_path, 1)
    assert "secret" not in str(caught.value)


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "searches").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"journal .*searches.* cannot be written"):
        rates(SearchSettings(), tmp_path, 1)


def test_optuna_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rates(SearchSettings(trials=2), tmp_path, 2)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
