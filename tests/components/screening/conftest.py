import csv
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from components.batches.intake import admit, intake
from components.culture import Modality
from components.datasets import steps as data_steps
from components.datasets.frozen import read_frozen
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.steps import evaluate
from components.registry.versions import Alias, Registry
from components.screening import steps
from components.settings import DataSettings, DriftSettings, ScreeningSettings, SplitSettings
from components.storage import open_store
from tests.components.evaluation.conftest import SEARCH, TRAINING, write_model, write_picture

LINEAGE, MODEL, SIDE = "clinic", Modality.SINGLE_STACK.model_name, 32


@dataclass(frozen=True)
class Clinic:
    """A lineage of 20 vessels, four images each, and, where it was promoted, a champion that is nearly always right."""

    folder: Path
    store: str
    mlflow: str
    home: Path
    split_id: str = ""

    @property
    def repository(self) -> DataRepository:
        return DataRepository(open_store(self.store))

    def write(self, name: str, seeds: Sequence[int], labels: Sequence[Any], truths: Sequence[int] | None = None) -> str:
        """Write a batch: an image a seed, of its label's grey (or its truth's); four go to a vessel."""
        folder = self.folder / "batches" / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for place, (seed, label) in enumerate(zip(seeds, labels, strict=True)):
            truth = truths[place] if truths else int(label)
            write_picture(folder / f"{seed}.png", truth, seed)
            rows.append({"file": f"{seed}.png", "class": label, "vessel": f"{name}-v{place // 4}"})
        self.table(name, rows)
        return str(folder)

    def table(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        with (self.folder / "batches" / name / "labels.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, ["file", "class", "vessel"])
            table.writeheader()
            table.writerows(rows)

    def take(self, name: str) -> str:
        """Take a batch in; gives its version."""
        uri = str(self.folder / "batches" / name)
        found = intake(uri, name, self.store, LINEAGE, Modality.SINGLE_STACK, DataSettings(), self.home)
        return str(found["batch_version"])

    def admit(self, version: str, name: str) -> dict[str, Any]:
        return admit(self.store, version, LINEAGE, name, "b" * 64, self.home)

    def frozen(self) -> list[str]:
        """Give the paths of the frozen test images."""
        return [image.path for image in read_frozen(open_store(self.store), LINEAGE)[0].test]

    def screen(self, version: str, lineage: str = LINEAGE, model: str = MODEL, **screening: Any) -> dict[str, Any]:
        drift = DriftSettings(permutations=200)
        output = self.home / "screening" / version[:12]
        limits = ScreeningSettings(**screening)
        return steps.screen(self.store, version, lineage, model, self.mlflow, limits, drift, self.home, output)

    def records(self, version: str) -> dict[str, ImageRecord]:
        return {record.path: record for record in self.repository.records(version)}


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path) -> Clinic:
    """The lineage with its split and its champion, for tests that copy it."""
    folder = tmp_path_factory.mktemp("clinic")
    clinic = Clinic(folder, str(folder / "store"), f"sqlite:///{folder / 'home' / 'mlflow.db'}", folder / "home")
    clinic.home.mkdir()
    (clinic.home / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    labels = [number % 4 + 1 for number in range(80)]
    clinic.write("first", range(80), labels)
    version = clinic.admit(clinic.take("first"), "first")["data_version"]
    split = data_steps.split(clinic.store, version, LINEAGE, SplitSettings())["split_id"]
    model = folder / "model"
    model.mkdir()
    write_model(model / "model.onnx", SIDE)
    (model / "training.json").write_text(json.dumps(TRAINING))
    (folder / "search.json").write_text(json.dumps(SEARCH))
    evaluate(
        clinic.store,
        split,
        model,
        folder / "search.json",
        folder / "bundle",
        clinic.home,
        modality=Modality.SINGLE_STACK,
        data_version=version,
        lineage=LINEAGE,
    )
    registry = Registry(clinic.mlflow)
    registry.set_alias(registry.register(folder / "bundle").version, Alias.CHAMPION)
    return Clinic(folder, clinic.store, clinic.mlflow, clinic.home, split)


@pytest.fixture
def clinic(begun: Clinic, tmp_path: Path) -> Clinic:
    """The lineage with its champion; images and measurements are shared, the rest is the test's own."""
    return _copied(begun, tmp_path)


@pytest.fixture
def no_champion(begun: Clinic, tmp_path: Path, empty_mlflow: Path) -> Clinic:
    """The lineage before it has a champion."""
    clinic = _copied(begun, tmp_path)
    (tmp_path / "empty.db").write_bytes(empty_mlflow.read_bytes())
    return Clinic(clinic.folder, clinic.store, f"sqlite:///{tmp_path / 'empty.db'}", clinic.home)


def _copied(begun: Clinic, folder: Path) -> Clinic:
    for name in ("store", "home"):
        shutil.copytree(begun.folder / name, folder / name)
    return Clinic(folder, str(folder / "store"), begun.mlflow, folder / "home", begun.split_id)


@pytest.fixture
def run(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs ``mscflow`` on the clinic's store and gives its answer."""
    from click.testing import CliRunner

    from pipelines.cli.main import mscflow

    monkeypatch.chdir(clinic.folder)
    monkeypatch.setenv("MSCFLOW_HOME", str(clinic.home))
    monkeypatch.setenv("MSCFLOW_STORE", clinic.store)

    def run(*arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(mscflow, [*arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run
