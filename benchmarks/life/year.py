"""A year of a laboratory's batches: what comes in when, and what is wrong with it."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from components.culture import Modality
from components.datasets.simulation import Microscope, simulate

SIDE = 192
FIRST_VESSELS, BATCH_VESSELS, CURRENT_VESSELS = 36, 6, 20
USUAL = Microscope.for_modality(Modality.SINGLE_STACK)
# What twelve months of wear come to, and what stands there after the change.
WORN = replace(USUAL, brightness=0.4, contrast=0.7, blur=2.2, noise=0.03)
OTHER = replace(USUAL, brightness=0.6, contrast=0.45, blur=3.0, noise=0.045, unevenness=0.3)
_FIRST_SEED, _CURRENT_SEED = 1, 5000


class Batch(NamedTuple):
    """One delivery.

    Attributes:
        number: From 1.
        kind: ``usual``, ``mislabelled``, ``duplicate`` (of the one before), ``microscope`` or ``corrupt``.
        microscope: That its images, and those of the day, are taken with.
    """

    number: int
    kind: str
    microscope: Microscope

    @property
    def name(self) -> str:
        return f"batch-{self.number:02d}"


KINDS = (
    "usual",
    "usual",
    "mislabelled",
    "usual",
    "duplicate",
    "usual",
    "microscope",
    "usual",
    "corrupt",
    *["usual"] * 5,
)


def year() -> list[Batch]:
    """Give the year's batches: the microscope wears slowly, is changed once, and the new one stays as it is."""
    changed = KINDS.index("microscope")
    return [
        Batch(number, kind, OTHER if number > changed else worn(number / changed))
        for number, kind in enumerate(KINDS, start=1)
    ]


def worn(share: float) -> Microscope:
    names = ("brightness", "contrast", "blur", "noise")
    return replace(USUAL, **{name: (1 - share) * getattr(USUAL, name) + share * getattr(WORN, name) for name in names})


def draw_first(folder: Path) -> Path:
    """Write the images that the laboratory begins with."""
    return _draw(folder, FIRST_VESSELS, _FIRST_SEED, USUAL)


def draw_current(batch: Batch, folder: Path) -> Path:
    """Write images of the batch's time that nothing is ever learnt from."""
    return _draw(folder, CURRENT_VESSELS, _CURRENT_SEED + batch.number, batch.microscope)


def draw_batch(batch: Batch, folder: Path) -> Path:
    """Write a batch as it is delivered, with whatever is wrong with it."""
    if folder.is_dir():
        return folder
    if batch.kind == "duplicate":
        shutil.copytree(folder.with_name(batch._replace(number=batch.number - 1).name), folder)
        return folder
    part = folder.with_name(f".{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    _draw(part, BATCH_VESSELS, _FIRST_SEED + batch.number, batch.microscope)
    spoil: dict[str, Callable[[Path], None]] = {"mislabelled": _mislabel, "corrupt": _corrupt}
    spoil.get(batch.kind, lambda _: None)(part)
    part.rename(folder)
    return folder


def _draw(folder: Path, vessels: int, seed: int, microscope: Microscope) -> Path:
    simulate(
        folder,
        images=6 * vessels,
        vessels=vessels,
        modality=Modality.SINGLE_STACK,
        seed=seed,
        size=(SIDE, SIDE),
        microscope=microscope,
    )
    return folder


def _mislabel(folder: Path) -> None:
    """Give the images of each vessel its labels in reverse, as a sheet that was sorted the wrong way would."""
    path = folder / "labels.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_vessel: dict[str, list[str]] = {}
    for row in rows:
        by_vessel.setdefault(row["vessel"], []).append(row["class"])
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "confluence"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "class": by_vessel[row["vessel"]].pop()} for row in rows)


def _corrupt(folder: Path) -> None:
    """Break off two files in three, as an interrupted copy does."""
    rng = np.random.default_rng(0)
    for number, path in enumerate(sorted(folder.rglob("*.png"))):
        data = path.read_bytes()
        if number % 3:
            path.write_bytes(data[: int(len(data) * rng.uniform(0, 0.7))])
