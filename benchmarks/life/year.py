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

USUAL = Microscope.for_modality(Modality.SINGLE_STACK)
# What the first microscope has come to when it is changed for the other one.
WORN = replace(USUAL, brightness=0.43, contrast=0.85, blur=1.5, noise=0.024)
OTHER = replace(USUAL, brightness=0.58, contrast=0.6, blur=2.0, noise=0.032, unevenness=0.25)
LABELS = "labels.csv"
_FIRST_SEED, _CURRENT_SEED = 1, 5000


class Scale(NamedTuple):
    """How large everything is: the images' side in pixels, vessels of six images, and epochs of a fit."""

    side: int
    first: int
    batch: int
    current: int
    epochs: int


FULL, QUICK = Scale(192, 36, 8, 20, 6), Scale(96, 16, 4, 4, 1)


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


def draw_first(scale: Scale, folder: Path) -> Path:
    """Write the images that the laboratory begins with."""
    return _draw(scale, folder, scale.first, _FIRST_SEED, USUAL)


def draw_current(scale: Scale, batch: Batch, folder: Path) -> Path:
    """Write images of the batch's time that nothing is ever learnt from."""
    return _draw(scale, folder, scale.current, _CURRENT_SEED + batch.number, batch.microscope)


def truth_of(delivery: Path) -> Path:
    """Give the table of what the images of a delivery really show."""
    return delivery.with_name(f"{delivery.name}.csv")


def draw_batch(scale: Scale, batch: Batch, folder: Path) -> Path:
    """Write a batch as it is delivered, with whatever is wrong with it."""
    if folder.is_dir():
        return folder
    if batch.kind == "duplicate":
        before = folder.with_name(batch._replace(number=batch.number - 1).name)
        shutil.copytree(before, folder)
        shutil.copyfile(truth_of(before), truth_of(folder))
        return folder
    part = folder.with_name(f".{folder.name}")
    shutil.rmtree(part, ignore_errors=True)
    _draw(scale, part, scale.batch, _FIRST_SEED + batch.number, batch.microscope)
    shutil.copyfile(part / LABELS, truth_of(folder))
    spoil: dict[str, Callable[[Path], None]] = {"mislabelled": _mislabel, "corrupt": _corrupt}
    spoil.get(batch.kind, lambda _: None)(part)
    part.rename(folder)
    return folder


def _draw(scale: Scale, folder: Path, vessels: int, seed: int, microscope: Microscope) -> Path:
    simulate(
        folder,
        images=6 * vessels,
        vessels=vessels,
        modality=Modality.SINGLE_STACK,
        seed=seed,
        size=(scale.side, scale.side),
        microscope=microscope,
    )
    return folder


def _mislabel(folder: Path) -> None:
    """Give the images of each vessel its labels in reverse, as a sheet that was sorted the wrong way would."""
    path = folder / LABELS
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
