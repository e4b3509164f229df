import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from components.bundle import MODEL_FILE, WEIGHTS_FILE, file_digest
from components.culture import Modality
from components.errors import IntegrityError
from components.imaging import Preprocessing
from components.models.weights import state_digest
from components.settings import RetrainSettings, TrainingSettings
from components.training import steps
from components.training.checkpoint import FileCheckpoint
from components.training.start import train_from

pytestmark = pytest.mark.usefixtures("tiny_backbone")

FILES = {MODEL_FILE, WEIGHTS_FILE, "training.json"}


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**{"backbone": "tiny", "image_size": 32, "epochs": 3, "batch_size": 8, **changes})


def fit(cultures: Any, home: Path, output: Path, champion: str = "", how: Any = None, **changes: Any) -> dict[str, Any]:
    return train_from(
        champion,
        RetrainSettings(**(how or {})),
        settings(**changes),
        output,
        home,
        store_uri=cultures.store,
        split_id=cultures.split_id,
        learning_rate=1e-2,
        modality=Modality.SINGLE_STACK,
    )


@pytest.fixture
def champion(cultures: Any, make_bundle: Any, tmp_path: Path) -> str:
    """Digest of a champion, trained for ten epochs, that lies in the home as the registry's step leaves it."""
    home, out = tmp_path / "home", tmp_path / "first"
    fit(cultures, home, out, epochs=10)
    weights = file_digest(out / WEIGHTS_FILE)
    shown = Preprocessing(size=32, planes="texture")
    digest: str = make_bundle(tmp_path / "bundle", weights=weights, backbone="tiny", preprocessing=shown)
    (home / "models").mkdir()
    (home / "weights").mkdir()
    shutil.move(tmp_path / "bundle", home / "models" / digest)
    shutil.copyfile(out / WEIGHTS_FILE, home / "weights" / f"{weights}.safetensors")
    return digest


def record(output: Path, name: str = "training.json") -> dict[str, Any]:
    told: dict[str, Any] = json.loads((output / name).read_bytes())
    return told


def test_without_a_champion_it_starts_anew_and_says_so(cultures: Any, tmp_path: Path) -> None:
    result = fit(cultures, tmp_path / "home", tmp_path / "out")
    assert (result["start"], result["note"]) == ("scratch", "there is no champion yet")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert not list((tmp_path / "home").rglob("checkpoint.pt*"))
    # The weights are those of the exported network.
    told = record(tmp_path / "out")
    assert state_digest(safetensors.torch.load_file(tmp_path / "out" / WEIGHTS_FILE)) == told["state_sha256"]


def test_the_better_of_both_starts_is_kept(cultures: Any, champion: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = fit(cultures, tmp_path / "home", out, champion)
    costs = result["starts"]
    assert set(costs) == {"champion", "scratch"}
    better = min(costs, key=lambda start: costs[start])
    other = {"champion": "scratch", "scratch": "champion"}[better]
    assert result["start"] == better
    assert result["validation_loss"] == pytest.approx(costs[better], abs=1e-6)
    assert {path.name for path in out.iterdir()} == FILES | {f"{other}-training.json"}
    assert record(out)["learning_rate"] == pytest.approx(3e-3 if better == "champion" else 1e-2)
    assert not list((tmp_path / "home").rglob("checkpoint.pt*"))


def test_it_goes_on_from_the_champions_whole_network(cultures: Any, champion: str, tmp_path: Path) -> None:
    # At next to no rate, one epoch leaves the champion as it is.
    how = {"start": "champion", "rate": 1e-9}
    result = fit(cultures, tmp_path / "home", tmp_path / "out", champion, how, epochs=1, dropout=0.0)
    before = record(tmp_path / "first")
    assert result["validation_loss"] == pytest.approx(before["history"][before["best_epoch"] - 1]["validation_loss"])
    assert record(tmp_path / "out")["weights"]["source"].startswith("champion ")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"image_size": 40}, "in another way"), ({"backbone": "shufflenet_v2"}, "backbone is tiny, not shufflenet_v2")],
)
def test_a_champion_of_another_kind_is_not_gone_on_from(
    changes: Any, reason: str, cultures: Any, champion: str, tmp_path: Path
) -> None:
    result = fit(cultures, tmp_path / "home", tmp_path / "out", champion, epochs=1, weights="none", **changes)
    assert result["start"] == "scratch"
    assert reason in result["note"]


def test_altered_weights_are_not_gone_on_from(cultures: Any, champion: str, tmp_path: Path) -> None:
    (kept,) = (tmp_path / "home" / "weights").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match=f"has no weights/{kept.stem}"):
        fit(cultures, tmp_path / "home", tmp_path / "out", champion)


def test_a_fit_that_was_finished_before_a_kill_is_not_done_again(
    cultures: Any, champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = fit(cultures, tmp_path / "home", tmp_path / "whole", champion)
    done = []

    def run(job: Any, launching: Any) -> dict[str, Any]:
        if done:
            raise KeyboardInterrupt
        done.append(job)
        return steps.run(job, launching)

    with monkeypatch.context() as patch:
        patch.setattr("components.training.start.run", run)
        with pytest.raises(KeyboardInterrupt):
            fit(cultures, tmp_path / "home", tmp_path / "killed", champion)
    assert FileCheckpoint(next((tmp_path / "home").rglob("checkpoint.pt")).parent).load() is not None
    again = fit(cultures, tmp_path / "home", tmp_path / "again", champion)
    assert again["starts"] == undisturbed["starts"]
    records = [record(tmp_path / "again", name) for name in ("training.json", f"{_other(again)}-training.json")]
    assert sorted(each["resumed_epochs"] for each in records) == [0, 3]


def _other(result: dict[str, Any]) -> str:
    return "scratch" if result["start"] == "champion" else "champion"
