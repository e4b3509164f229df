"""A laboratory that deals with each batch in its way, by the product's own step functions."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from life.year import LABELS, Batch, truth_of

from components.batches.intake import admit, intake
from components.bundle import MODEL_FILE, read_bundle
from components.culture import Modality
from components.datasets import steps as data
from components.datasets.arrays import load_arrays
from components.datasets.importers import find_images
from components.datasets.manifest import ImageRecord
from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.errors import MscflowError
from components.evaluation.scoring import Network, labels
from components.evaluation.steps import evaluate
from components.registry import steps as registry
from components.registry.start import fetch_champion
from components.registry.verdicts import Override
from components.screening.steps import screen
from components.settings import (
    DataSettings,
    DriftSettings,
    GateSettings,
    RetrainSettings,
    ScreeningSettings,
    SplitSettings,
    TrainingSettings,
    sqlite_uri,
)
from components.storage import open_store
from components.training.start import train_from

LINEAGE = "laboratory"
NAME = "confluence-single-stack"
TRAINING = TrainingSettings(backbone="cover_net", backbone_rate=0.5, image_size=96, learning_rate=0.001)
SPLIT = SplitSettings(test_fraction=0.3)
WAYS = ("product", "never", "always")


class Laboratory:
    """One way to deal with batches, in a folder of its own.

    Args:
        folder: Holds its store, its registry and all else.
        way: ``product``: screened and judged by the gate, and a person labels what was stopped. ``always``: taken
            in, learnt from and released, whatever it is. ``never``: looked at by nobody.
        epochs: Of each fit.
    """

    def __init__(self, folder: Path, way: str, epochs: int) -> None:
        self._training = TRAINING.model_copy(update={"epochs": epochs})
        self.home, self.way = folder / way, way
        self.store, self.mlflow = str(self.home / "store"), sqlite_uri(self.home / "mlflow.db")
        self.home.mkdir(parents=True, exist_ok=True)

    def begin(self, source: Path) -> dict[str, Any]:
        """Learn and release the first model."""
        taken = data.snapshot(str(source), self.store, DataSettings(ref=LINEAGE), Modality.SINGLE_STACK, self.home)
        return self._learn(taken["data_version"], self.home / "work" / "first")

    def receive(self, batch: Batch, uri: Path) -> dict[str, Any]:
        """Deal with a batch; tells what came of it."""
        if self.way == "never":
            return {"verdict": "ignored", "released": False}
        work = self.home / "work" / batch.name
        try:
            return self._deal(batch, str(uri), work)
        except MscflowError as error:
            return {"verdict": "failed", "reasons": [str(error)], "released": False}
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _deal(self, batch: Batch, uri: str, work: Path) -> dict[str, Any]:
        taken = intake(uri, batch.name, self.store, LINEAGE, Modality.SINGLE_STACK, DataSettings(), self.home)
        told: dict[str, Any] = {"verdict": "admitted", "reasons": [], "quarantined": taken["quarantined"]}
        admissible = taken["batch_version"]
        if self.way == "product":
            seen = screen(
                self.store,
                admissible,
                LINEAGE,
                NAME,
                self.mlflow,
                ScreeningSettings(),
                DriftSettings(),
                self.home,
                work / "screening",
            )
            told |= {name: seen[name] for name in ("verdict", "reasons", "refused")}
            told |= {"alarm": bool(seen["drift"] and seen["drift"]["drifted"]), "drift": _effects(seen["drift"])}
            admissible = seen["admissible"]
        if told["verdict"] == "admitted":
            version = admit(self.store, admissible, LINEAGE, batch.name, admissible, self.home)["data_version"]
        elif told["verdict"] == "stopped" and seen["review"]:
            told["labelled"] = label(Path(seen["review"].removeprefix("file://")), batch.name, truth_of(Path(uri)))
            version = self._import(seen["review"])
        else:
            return {**told, "released": False}
        return {**told, **self._learn(version, work)}

    def _import(self, review: str) -> str:
        """Take back what a person has labelled, as ``mscflow data import`` does."""
        repository, place = DataRepository(open_store(self.store)), open_store(review)
        images = find_images(place)
        return repository.snapshot(place, images, ref=LINEAGE, message="labelled by a person", extend=True).version

    def _learn(self, version: str, work: Path) -> dict[str, Any]:
        """Learn from a data version, and release what was learnt if this laboratory's way lets it."""
        valid = data.validate(self.store, version, DataSettings(), self.home)
        split = data.split(self.store, valid["data_version"], LINEAGE, SPLIT)["split_id"]
        champion = fetch_champion(NAME, valid["data_version"], self.mlflow, self.home)["digest"]
        fitted = train_from(
            champion,
            RetrainSettings(),
            self._training,
            work / "model",
            self.home,
            store_uri=self.store,
            split_id=split,
            learning_rate=self._training.learning_rate,
            modality=Modality.SINGLE_STACK,
        )
        evaluate(
            self.store,
            split,
            work / "model",
            None,
            work / "bundle",
            self.home,
            modality=Modality.SINGLE_STACK,
            data_version=valid["data_version"],
            lineage=LINEAGE,
        )
        made = registry.register(work / "bundle", self.mlflow, self.home, self.store)
        override = Override("every model is released here") if self.way == "always" or not champion else None
        done = registry.promote(
            NAME, made["version"], self.store, split, self.mlflow, GateSettings(), self.home, override
        )
        return {
            "split": split,
            "start": fitted["start"],
            "version": made["version"],
            "released": done["passed"],
            "gate": list(done["reasons"]),
        }

    def champion(self) -> Path:
        """Give the folder of the model that serves."""
        return self.home / "models" / fetch_champion(NAME, "", self.mlflow, self.home)["digest"]

    def frozen(self, split: str) -> tuple[DataRepository, list[ImageRecord]]:
        """Give the test images of a split."""
        repository = DataRepository(open_store(self.store))
        return repository, load_split(repository, split)["test"]


def _effects(drift: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [{name: test[name] for name in ("kind", "effect", "p")} for test in (drift or {}).get("tests", [])]


def label(review: Path, batch: str, truth: Path) -> int:
    """Do what a person does with a review queue: say what each image really shows; gives the number of images."""
    with truth.open(newline="", encoding="utf-8") as file:
        classes = {f"{batch}/{row['file']}": row["class"] for row in csv.DictReader(file)}
    table = review / LABELS
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "class": classes[row["file"]]} for row in rows)
    return len(rows)


def images_of(source: Path, folder: Path) -> tuple[DataRepository, list[ImageRecord]]:
    """Take images that are only ever asked about into a store of their own."""
    repository, place = DataRepository(open_store(str(folder / "store"))), open_store(str(source))
    version = repository.snapshot(place, find_images(place), ref=source.name, message="").version
    return repository, list(repository.records(version))


def accuracy(bundle: Path, images: tuple[DataRepository, list[ImageRecord]], cache: Path) -> float:
    """Give the share of right answers of a model."""
    network = Network(bundle / MODEL_FILE, prep := read_bundle(bundle)[0].preprocessing)
    answers = network.logits(load_arrays(*images, prep, cache)).argmax(axis=1) + 1
    return float(np.mean(answers == labels(images[1])))
