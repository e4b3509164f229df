"""How fast is a network trained, beside the bare step and beside a loop as the study's own was?

python benchmarks/training.py                                 images a second, three ways, in turn
python benchmarks/training.py --backbones mobilenet_v3,resnet50 --images 96 --rounds 5
python benchmarks/training.py --augmentations study           with the study's seven instead of the default's
python benchmarks/training.py --input                         the input pipelines alone
python benchmarks/training.py --json

    mscflow   the fit's own epoch: images decoded once, augmented as batched tensors
    limit     the same step on tensors that lie in memory ready-made, without any input pipeline
    study     each image decoded, resized and augmented in Pillow, every epoch, in two worker processes

Images are simulated cultures of 1000 pixels; the machine should do nothing else. A figure is the median of the
rounds, in each of which the three take turns.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from csv import DictReader
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import study_loop
from components.culture import Modality
from components.datasets.simulation import simulate
from components.events import observed
from components.imaging import Preprocessing, arrange, read
from components.models.classifier import Classifier, build_classifier
from components.models.weights import Weights, input_of
from components.settings import GEOMETRIC, PHOTOMETRIC, TrainingSettings
from components.training.augmentation import augment, draw
from components.training.data import Part, TrainingData
from components.training.fit import Fit
from components.training.ranks import Ranks, available_cores

SIDE, NONE = 300, Weights("none")
RATE = 1e-4
STUDY = tuple(name for name in GEOMETRIC + PHOTOMETRIC if name != "quarter_turn")
CHOICES: dict[str, tuple[str, ...]] = {
    "default": (*GEOMETRIC, "colour_jitter"),
    "study": STUDY,
    "none": (),
}


def pictures(folder: Path, count: int) -> tuple[list[Path], list[int]]:
    """Simulate cultures; give their files and classes, 0 to 3."""
    with observed(lambda _: None):
        simulate(folder, images=count, modality=Modality.SINGLE_STACK, size=(1000, 1000))
    with (folder / "labels.csv").open(newline="") as file:
        rows = list(DictReader(file))
    return [folder / row["file"] for row in rows], [int(row["class"]) - 1 for row in rows]


def settings(backbone: str, batch: int, augmentations: tuple[str, ...]) -> TrainingSettings:
    return TrainingSettings(
        backbone=backbone, image_size=SIDE, batch_size=batch, planes="rgb", augmentations=augmentations, epochs=1000
    )


def decoded(paths: list[Path], labels: list[int], prep: Preprocessing) -> Part:
    import numpy as np

    images = np.stack([arrange(read(path.read_bytes()), prep) for path in paths])
    return Part.of(images, [label + 1 for label in labels])


class Mscflow:
    """The fit's own epochs."""

    def __init__(self, backbone: str, part: Part, chosen: TrainingSettings) -> None:
        model = build_classifier(backbone, chosen.dropout, NONE, seed=0)
        ranks = Ranks(0, 1, torch.device("cpu"))
        data = TrainingData(part, part)
        self.fit = Fit(model, data, chosen, RATE, input_of(chosen, NONE), ranks, pretrained=False)
        self.epochs = 0

    def epoch(self) -> None:
        self.epochs += 1
        self.fit._train(self.fit.network, self.epochs)


class Limit:
    """The fit's step on batches that are ready."""

    def __init__(self, backbone: str, part: Part, chosen: TrainingSettings) -> None:
        self.fit = Mscflow(backbone, part, chosen).fit
        order = torch.arange(len(part))
        self.batches = [
            (self.fit._images(part, batch), part.labels[batch]) for batch in torch.tensor_split(order, self.fit.batches)
        ]

    def epoch(self) -> None:
        self.fit.network.train()
        for images, labels in self.batches:
            self._step(images, labels)

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        network = self.fit.network
        self.fit._descend(network, [labels], lambda piece: self.fit._loss(network, images, piece))


class Study:
    """The loop as the study's was written."""

    def __init__(self, backbone: str, paths: list[Path], labels: list[int], batch: int, *, augmented: bool) -> None:
        self.model: Classifier = build_classifier(backbone, 0.5, NONE, seed=0)
        found = study_loop.Pictures(paths, labels, SIDE, augmented=augmented)
        self.batches = study_loop.loader(found, batch, available_cores(), seed=0)
        self.optimizer = study_loop.optimiser(self.model, RATE)
        self.weights: Tensor = torch.ones(4)

    def epoch(self) -> None:
        study_loop.train_epoch(self.model, self.batches, self.optimizer, self.weights)

    def read(self) -> None:
        for _ in self.batches:
            pass


def rates(ways: dict[str, Callable[[], None]], images: int, rounds: int) -> dict[str, list[float]]:
    """Images a second of each way, round by round, after one that does not count."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, epoch in ways.items():
            started = time.perf_counter()
            epoch()
            if number:
                found[name].append(images / (time.perf_counter() - started))
    return found


def compare(found: dict[str, list[float]], own: str) -> dict[str, Any]:
    """Medians, and the ratio of each round to the others' of the same round: least, median, largest."""
    told: dict[str, Any] = {name: round(statistics.median(each), 2) for name, each in found.items()}
    for name, each in found.items():
        if name != own:
            ratios = sorted(mine / other for mine, other in zip(found[own], each, strict=True))
            told[f"{own}/{name}"] = [round(value, 3) for value in (ratios[0], statistics.median(ratios), ratios[-1])]
    return told


def train(given: argparse.Namespace, paths: list[Path], labels: list[int]) -> dict[str, Any]:
    told = {}
    for backbone in given.backbones.split(","):
        chosen = settings(backbone, given.batch, CHOICES[given.augmentations])
        part = decoded(paths, labels, input_of(chosen, NONE))
        ways = {
            "mscflow": Mscflow(backbone, part, chosen).epoch,
            "limit": Limit(backbone, part, chosen).epoch,
            "study": Study(backbone, paths, labels, given.batch, augmented=given.augmentations != "none").epoch,
        }
        told[backbone] = compare(rates(ways, len(paths), given.rounds), "mscflow")
    return told


def feed(given: argparse.Namespace, paths: list[Path], labels: list[int]) -> dict[str, Any]:
    """The input pipelines alone; ours on one thread and on all."""
    chosen = settings("mobilenet_v3", given.batch, CHOICES[given.augmentations])
    part = decoded(paths, labels, input_of(chosen, NONE))
    fit = Mscflow("mobilenet_v3", part, chosen).fit
    draws = draw(len(part), torch.Generator().manual_seed(0))

    def own() -> None:
        for batch in torch.tensor_split(torch.randperm(len(part)), fit.batches):
            fit._normalised(augment(fit._images(part, batch), draws[batch], fit.augmentations))

    study = Study("mobilenet_v3", paths, labels, given.batch, augmented=given.augmentations != "none")
    with torch.no_grad():
        return compare(rates({"mscflow": own, "study": study.read}, len(paths), given.rounds), "mscflow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", default="mobilenet_v3")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--augmentations", choices=CHOICES, default="default")
    parser.add_argument("--input", action="store_true", help="the input pipelines alone")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(available_cores())
    with tempfile.TemporaryDirectory() as folder:
        paths, labels = pictures(Path(folder), given.images)
        told = (feed if given.input else train)(given, paths, labels)
    print(json.dumps(told, indent=2) if given.json else told)


if __name__ == "__main__":
    main()
