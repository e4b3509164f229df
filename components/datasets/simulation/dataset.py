"""A folder of simulated cultures, as a source for import: images, ``labels.csv`` and ``boxes.csv``."""

import csv
import io
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from components.culture import CLASSES, ConfluenceClass, Modality
from components.datasets.manifest import Box
from components.datasets.simulation.growth import POSITIONS, Growth, Shot, generator, make_vessel, plan
from components.datasets.simulation.microscope import Microscope
from components.datasets.simulation.picture import (
    MIN_CONFLUENCE_OF_ABNORMAL,
    REFERENCE_SIDE,
    Picture,
    render,
)
from components.datasets.simulation.specification import Simulation
from components.datasets.simulation.workers import map_in_order
from components.errors import DataError, InputError, StorageError
from components.events import Progress

SIMULATION_FILE = "simulation.json"
LABELS_FILE = "labels.csv"
BOXES_FILE = "boxes.csv"
# The study marked an abnormal cell in 165 of its 720 single-stack images, and in no multi-stack one.
ABNORMAL_FRACTION = {Modality.SINGLE_STACK: 165 / 720, Modality.MULTI_STACK: 0.0}
# Splits keep vessels whole, so even a small data set is spread over this many.
FEWEST_VESSELS = 10
BOX_COLUMNS = ("file", "x1", "y1", "x2", "y2", "class")


@dataclass(frozen=True, slots=True)
class SimulationSummary:
    """What a folder of simulated cultures holds.

    Attributes:
        classes: Images per confluence class; all four are named.
        boxes: Boxes around abnormal cells.
        seconds: Wall time taken.
        drawn: False if the folder held the same simulation already.
    """

    folder: Path
    images: int
    classes: dict[ConfluenceClass, int]
    vessels: int
    boxes: int
    seconds: float
    drawn: bool


class _Drawn(NamedTuple):
    row: dict[str, str | int]
    boxes: tuple[Box, ...]


def simulate(
    folder: Path,
    *,
    images: int,
    modality: Modality,
    seed: int = 0,
    size: tuple[int, int] = (REFERENCE_SIDE, REFERENCE_SIDE),
    vessels: int | None = None,
    growth: Growth | None = None,
    microscope: Microscope | None = None,
    abnormal_fraction: float | None = None,
    processes: int | None = None,
) -> SimulationSummary:
    """Write images of simulated cultures and all that is known of them.

    The same arguments give the same bytes, and an image depends on its seed, vessel, day and position
    alone. ``labels.csv`` is written last: without it the folder is unfinished, and the same call
    finishes it.

    Args:
        folder: Where to; new, empty, or holding the same simulation.
        images: Number of images.
        modality: How the vessels are built.
        seed: Another seed gives other vessels, with other names.
        size: Height and width of the images, pixels.
        vessels: Number of vessels; by default what the images need at five positions on each day, but
            at least ten, so that a split by vessel has something to divide.
        growth: The growth curve.
        microscope: How images are taken; by default as the modality has it. Each image varies a little.
        abnormal_fraction: Share of images with an enlarged, flattened cell; by default that of the study.
        processes: Processes that draw; by default one a core if there are many images. They need an
            importable main module, as every use of processes does.

    Raises:
        InputError: if an argument is out of range.
        DataError: if the folder holds something else.
        StorageError: if the folder cannot be written.
    """
    started = time.perf_counter()
    growth = growth or Growth()
    simulation = Simulation(
        images=images,
        modality=modality,
        seed=seed,
        size=size,
        vessels=_usual_vessels(images, growth) if vessels is None else vessels,
        growth=growth,
        microscope=microscope or Microscope.for_modality(modality),
        abnormal_fraction=ABNORMAL_FRACTION[modality] if abnormal_fraction is None else abnormal_fraction,
    )
    if processes is not None and processes < 1:
        raise InputError(f"processes {processes} is too few: give 1 or more")
    try:
        finished = _claim(folder, simulation)
        if not finished:
            _draw_all(folder, simulation, processes)
        return _summarise(folder, simulation, time.perf_counter() - started, drawn=not finished)
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"folder '{folder}' cannot be written ({reason}): choose another or free space") from error


def _usual_vessels(images: int, growth: Growth) -> int:
    return max(math.ceil(images / (growth.days * len(POSITIONS))), min(FEWEST_VESSELS, images))


def _claim(folder: Path, simulation: Simulation) -> bool:
    """Make the folder this simulation's own; tell whether all of it is there already."""
    note, wanted = folder / SIMULATION_FILE, simulation.as_json()
    folder.mkdir(parents=True, exist_ok=True)
    if note.is_file():
        differing = _differences(note, wanted)
        if differing:
            raise DataError(f"folder '{folder}' holds another simulation ({differing}): choose a new folder")
        return _is_finished(folder)
    if any(folder.iterdir()):
        raise DataError(f"folder '{folder}' is not empty and holds no simulation: choose a new or empty folder")
    _write(note, json.dumps(wanted, indent=2, sort_keys=True).encode() + b"\n")
    return False


def _differences(note: Path, wanted: dict[str, Any]) -> str:
    try:
        found = json.loads(note.read_bytes())
    except ValueError:
        return f"{note.name} cannot be read"
    names = [name for name, value in wanted.items() if not isinstance(found, dict) or found.get(name) != value]
    return ", ".join(names)


def _is_finished(folder: Path) -> bool:
    if not (folder / LABELS_FILE).is_file() or not (folder / BOXES_FILE).is_file():
        return False
    return all((folder / row["file"]).is_file() for row in _rows(folder / LABELS_FILE))


def _draw_all(folder: Path, simulation: Simulation, processes: int | None) -> None:
    vessels = [
        make_vessel(simulation.seed, simulation.modality, simulation.growth, index)
        for index in range(simulation.vessels)
    ]
    shots = plan(simulation.images, vessels, simulation.growth.days)
    for vessel in vessels:
        (folder / "images" / vessel.name).mkdir(parents=True, exist_ok=True)
    progress = Progress("simulate cultures", len(shots), "images")
    drawn = []
    for one in map_in_order(partial(_draw, folder, simulation), shots, processes):
        drawn.append(one)
        progress.advance()
    boxes = [line for one in drawn for line in _box_lines(str(one.row["file"]), one.boxes)]
    _write(folder / BOXES_FILE, _csv(BOX_COLUMNS, boxes))
    _write(folder / LABELS_FILE, _csv(tuple(drawn[0].row), [tuple(one.row.values()) for one in drawn]))


def take(simulation: Simulation, shot: Shot) -> Picture:
    """Take one image of a simulation; it depends on nothing else that is taken."""
    vessel = shot.vessel
    rng = generator(simulation.seed, simulation.modality, 3, vessel.index, shot.day, POSITIONS.index(shot.position))
    confluence = vessel.confluence(shot.day, shot.position)
    abnormal = confluence >= MIN_CONFLUENCE_OF_ABNORMAL and rng.random() < simulation.abnormal_fraction
    usual = simulation.microscope
    return render(
        confluence,
        simulation.modality,
        rng,
        simulation.size,
        int(abnormal),
        habit=vessel.habit,
        # Nobody sets light and focus twice alike.
        microscope=usual.drifted(brightness=rng.normal(0.0, 0.03), blur=rng.normal(0.0, 0.2 * usual.blur)),
    )


def _draw(folder: Path, simulation: Simulation, shot: Shot) -> _Drawn:
    picture, vessel = take(simulation, shot), shot.vessel
    file = f"images/{vessel.name}/day{shot.day:02d}_{shot.position}.png"
    buffer = io.BytesIO()
    # Noise does not compress: more effort costs time and saves no space.
    Image.fromarray(picture.image).save(buffer, "PNG", compress_level=1)
    _write(folder / file, buffer.getvalue())
    row: dict[str, str | int] = {
        "file": file,
        "source": "simulated",
        "group": vessel.name,
        "vessel": vessel.name,
        "day": shot.day,
        "position": shot.position.value,
        "donor": vessel.donor,
        "lot": vessel.lot,
        "passage": vessel.passage,
        "batch": vessel.batch,
        "modality": simulation.modality.value,
        # Enough digits to give the exact number of pixels back.
        "confluence": f"{picture.confluence:.9f}",
        "class": int(ConfluenceClass.from_confluence(picture.confluence)),
        "width": simulation.size[1],
        "height": simulation.size[0],
        "seed": simulation.seed,
    }
    return _Drawn(row, picture.boxes)


def _box_lines(file: str, boxes: tuple[Box, ...]) -> Iterator[tuple[str, ...]]:
    """Give a row a box; an empty one says that there is none."""
    if not boxes:
        yield (file, "", "", "", "", "")
    for box in boxes:
        yield (file, *(f"{edge:g}" for edge in (box.x1, box.y1, box.x2, box.y2)), box.label)


def _csv(columns: tuple[str, ...], rows: Iterable[tuple[str | int, ...]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


def _summarise(folder: Path, simulation: Simulation, seconds: float, *, drawn: bool) -> SimulationSummary:
    rows = list(_rows(folder / LABELS_FILE))
    classes = Counter(ConfluenceClass(int(row["class"])) for row in rows)
    return SimulationSummary(
        folder=folder,
        images=len(rows),
        classes={label: classes[label] for label in CLASSES},
        vessels=len({row["vessel"] for row in rows}),
        boxes=sum(row["class"] != "" for row in _rows(folder / BOXES_FILE)),
        seconds=seconds,
        drawn=drawn,
    )
