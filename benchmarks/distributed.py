"""Do two processes teach what one does, what do they gain on this machine, and what does a lost pod cost?

python benchmarks/distributed.py                   the loss curves and the time of an epoch, one process against two
python benchmarks/distributed.py --images 600 --size 96 --repeats 3

Each process computes in one thread, so that two cores are one process's and its peer's. Gloo joins them over loopback.
Efficiency is the time of one process by twice that of two; the least epoch of all repeats counts, as the machine may
do something else.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from components.culture import Modality
from components.datasets import steps as data_steps
from components.datasets.simulation.dataset import simulate
from components.events import observed
from components.settings import DataSettings, SplitSettings, TrainingSettings
from components.training.steps import train

MODALITY = Modality.SINGLE_STACK
CURVES = ("train_loss", "validation_loss", "validation_accuracy")


def prepare(folder: Path, images: int, size: int) -> str:
    """Simulate cultures and divide them; give the split."""
    simulate(folder / "source", images=images, modality=MODALITY, size=(size, size))
    settings, home = DataSettings(unlabelled=True), folder / "home"
    data = data_steps.snapshot(str(folder / "source"), str(folder / "store"), settings, MODALITY, home)
    split = data_steps.split(str(folder / "store"), data["data_version"], "cultures", SplitSettings())
    return str(split["split_id"])


def history(folder: Path, split: str, settings: TrainingSettings, rate: float, run: int) -> list[dict[str, Any]]:
    """Fit in processes of their own, as the train step does, and give each epoch."""
    output = folder / f"out-{settings.processes}-{run}"
    home = folder / "home"
    train(str(folder / "store"), split, rate, settings, output, home, MODALITY)
    record: dict[str, Any] = json.loads((output / "training.json").read_bytes())
    epochs: list[dict[str, Any]] = record["history"]
    return epochs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-4, help="the higher, the more Adam makes of a last bit")
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name, observed(lambda event: None):
        measure(Path(name), given)


def measure(folder: Path, given: argparse.Namespace) -> None:
    split = prepare(folder, given.images, given.size)
    # Dropout is drawn in each process, and would make two other curves.
    plain = TrainingSettings(image_size=given.size, epochs=given.epochs, batch_size=32, dropout=0.0, patience=99)
    divisions = {"one process": {}, "one, 8 images at a time": {"micro_batch": 8}, "two processes": {"processes": 2}}
    curves: dict[str, list[dict[str, Any]]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in divisions}
    for run in range(given.repeats):
        for name, division in divisions.items():
            curves[name] = history(folder, split, plain.model_copy(update=division), given.rate, run)
            # The first epoch warms up.
            seconds[name] += [epoch["seconds"] for epoch in curves[name][1:]]
    show(curves, seconds)


def show(curves: dict[str, list[dict[str, Any]]], seconds: dict[str, list[float]]) -> None:
    one = curves["one process"]
    for name, epochs in curves.items():
        losses = " ".join(f"{epoch['validation_loss']:.4f}" for epoch in epochs)
        pairs = [(epoch[key], own[key]) for epoch, own in zip(epochs, one, strict=True) for key in CURVES]
        apart = max(abs(value - expected) / abs(expected) for value, expected in pairs)
        least, median = min(seconds[name]), statistics.median(seconds[name])
        print(f"{name:24} validation loss {losses}  apart {apart:.1e}  epoch {least:.2f} s (median {median:.2f} s)")
    ratio = min(seconds["one process"]) / min(seconds["two processes"])
    print(f"two processes are {ratio:.2f} times as fast as one: an efficiency of {ratio / 2:.0%}")


if __name__ == "__main__":
    main()
