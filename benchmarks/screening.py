"""How often are right labels stopped, and wrong ones found? And how surely is a copy told from another image?

python benchmarks/screening.py                     about eight minutes on 2 free cores
python benchmarks/screening.py --repeats 40        a tenth of it
python benchmarks/screening.py FOLDER              copies of real images as well; FOLDER (default: MSCFLOW_REAL_DATA)
                                                   holds labels.csv with a column file
python benchmarks/screening.py --json RESULT.json

Labels. The champion is a logistic regression on the statistics of images of 60 simulated vessels. Of 160 further
vessels some are its test part, from which its error is known, and others are a batch, drawn by vessel: right labels,
and labels of which a share is shuffled. Beside our bound stands the usual one, a binomial test that takes images to
be independent and the known error to be exact. The same with drawn errors, of a stated mean and a stated correlation
within vessels. Then right labels of images from another microscope, with and without the images that look foreign to
the champion.

Copies. Images are encoded, sized, turned and lit anew; a copy is found if its likeness to its original reaches
``screening.similarity``. No other image's may.
"""

import argparse
import csv
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from components.culture import Modality
from components.datasets.arrays import read_image
from components.datasets.importers import find_images
from components.datasets.manifest import ImageRecord
from components.datasets.simulation import Microscope, simulate
from components.datasets.versions import DataRepository
from components.evaluation.familiarity import descriptions
from components.events import observed
from components.imaging import read
from components.novelty import Familiar
from components.screening.agreement import Tally, judge_labels, tally
from components.screening.leakage import likenesses, pattern
from components.settings import ScreeningSettings
from components.storage import open_store

SIDE, IMAGES_A_VESSEL = 128, 8
TAUGHT, VESSELS, OTHER_VESSELS = 60, 160, 60
SETTINGS = ScreeningSettings()
TESTED, BATCHES = (12, 40), (2, 5, 20)
SHUFFLED = (0.0, 0.25, 0.5, 1.0)
DRAWN = [(error, spread) for error in (0.02, 0.1, 0.25) for spread in (0.0, 0.1, 0.3)]
USUAL = Microscope.for_modality(Modality.SINGLE_STACK)
OTHER = replace(USUAL, brightness=0.55, contrast=0.75, blur=1.3, noise=0.026, unevenness=0.2)
MOST_COPIES = 400


class Pool(NamedTuple):
    """Images that a champion has answered.

    Attributes:
        vessels: Rows of each vessel's images.
        truth: Their classes, 1 to 4; ``said`` what the champion calls them.
        described: See ``components.novelty.describe``.
    """

    repository: DataRepository
    records: list[ImageRecord]
    vessels: list[np.ndarray]
    truth: np.ndarray
    said: np.ndarray
    described: np.ndarray


def make_pool(folder: Path, name: str, vessels: int, seed: int, microscope: Microscope) -> Pool:
    source = folder / name
    simulate(
        source,
        images=vessels * IMAGES_A_VESSEL,
        vessels=vessels,
        modality=Modality.SINGLE_STACK,
        seed=seed,
        size=(SIDE, SIDE),
        microscope=microscope,
    )
    repository, origin = DataRepository(open_store(str(folder / "store"))), open_store(str(source))
    records = list(repository.records(repository.snapshot(origin, find_images(origin), ref=name, message="").version))
    names = np.array([record.split_group for record in records])
    rows = [np.flatnonzero(names == each) for each in np.unique(names)]
    truth = np.array([record.confluence_class for record in records])
    return Pool(repository, records, rows, truth, truth, descriptions(repository, records, folder / "cache"))


def taught(pool: Pool) -> Any:
    """Fit a champion on the first vessels: a logistic regression on what describes images."""
    rows = np.concatenate(pool.vessels[:TAUGHT])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return model.fit(pool.described[rows], pool.truth[rows])


def counted(pool: Pool, vessels: Sequence[int], labels: np.ndarray | None = None, keep: Any = None) -> Tally:
    rows = np.concatenate([pool.vessels[vessel] for vessel in vessels])
    wrong = pool.said[rows] != (pool.truth[rows] if labels is None else labels)
    asked = np.ones(len(rows), int) if keep is None else keep[rows].astype(int)
    names = [pool.records[row].split_group for row in rows]
    return tally(names, (wrong & (asked > 0)).astype(int).tolist(), asked.tolist())


def shuffled(pool: Pool, vessels: Sequence[int], share: float, rng: np.random.Generator) -> np.ndarray:
    """Give the batch's labels, a share of which changed places by chance."""
    labels = pool.truth[np.concatenate([pool.vessels[vessel] for vessel in vessels])].copy()
    chosen = rng.choice(len(labels), round(share * len(labels)), replace=False)
    labels[chosen] = rng.permutation(labels[chosen])
    return labels


def usual_bound(known: Tally, batch: Tally) -> float:
    images = int(batch.asked.sum())
    return float(stats.binom.ppf(1 - SETTINGS.false_stop, images, known.share) / images)


def of_the_pool(pool: Pool, tested: int, size: int, repeats: int, rng: np.random.Generator) -> dict[str, Any]:
    stopped = {name: dict.fromkeys(SHUFFLED, 0) for name in ("ours", "without margin", "binomial")}
    for number in range(repeats):
        order = rng.permutation(len(pool.vessels))
        known, batch = counted(pool, order[:tested]), order[tested : tested + size]
        right = counted(pool, batch)
        held = judge_labels(known, right, false_stop=SETTINGS.false_stop, margin=SETTINGS.margin, seed=number)
        bounds = (held.bound, held.bound - SETTINGS.margin, usual_bound(known, right))
        for share in SHUFFLED:
            found = counted(pool, batch, shuffled(pool, batch, share, rng)).share
            for name, bound in zip(stopped, bounds, strict=True):
                stopped[name][share] += found > bound
    return {name: {f"{share:.0%}": count / repeats for share, count in each.items()} for name, each in stopped.items()}


def of_drawn_errors(error: float, spread: float, repeats: int, rng: np.random.Generator) -> dict[str, float]:
    """Right labels: 12 vessels of eight images known, batches of five vessels of eight."""
    stopped = dict.fromkeys(("ours", "without margin", "binomial"), 0)
    for number in range(repeats):
        known, batch = (_draw(rng, vessels, error, spread) for vessels in (12, 5))
        held = judge_labels(known, batch, false_stop=SETTINGS.false_stop, margin=SETTINGS.margin, seed=number)
        bounds = (held.bound, held.bound - SETTINGS.margin, usual_bound(known, batch))
        for name, bound in zip(stopped, bounds, strict=True):
            stopped[name] += batch.share > bound
    return {name: count / repeats for name, count in stopped.items()}


def _draw(rng: np.random.Generator, vessels: int, error: float, spread: float) -> Tally:
    rates = np.full(vessels, error)
    if spread:
        rates = rng.beta(error * (1 / spread - 1), (1 - error) * (1 / spread - 1), vessels)
    names = tuple(str(vessel) for vessel in range(vessels))
    return Tally(names, rng.binomial(IMAGES_A_VESSEL, rates), np.full(vessels, IMAGES_A_VESSEL))


def of_another_microscope(pool: Pool, other: Pool, repeats: int, rng: np.random.Generator) -> dict[str, float]:
    """Right labels, images of another microscope: are they stopped?"""
    stopped = dict.fromkeys(("all images", "without foreign ones"), 0)
    foreign = []
    for number in range(repeats):
        order, batch = rng.permutation(len(pool.vessels)), rng.permutation(len(other.vessels))[:5]
        train, validation = (np.concatenate([pool.vessels[v] for v in part]) for part in (order[:60], order[60:80]))
        familiar = Familiar.fit(pool.described[train], pool.described[validation])
        rows = np.concatenate([other.vessels[vessel] for vessel in batch])
        keep = np.zeros(len(other.records), bool)
        keep[rows] = [familiar.judge_description(other.described[row]).novelty <= 1 for row in rows]
        foreign.append(1 - keep[rows].mean())
        known = counted(pool, order[80:120])
        for name, kept in zip(stopped, (None, keep), strict=True):
            found = counted(other, batch, keep=kept)
            held = judge_labels(known, found, false_stop=SETTINGS.false_stop, margin=SETTINGS.margin, seed=number)
            stopped[name] += not held.trusted
    error = float((other.said != other.truth).mean())
    rates = {name: count / repeats for name, count in stopped.items()}
    return {**rates, "foreign images": float(np.mean(foreign)), "the champion's error": error}


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return read(file.getvalue())


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    width, height = (max(8, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG of quality 60": lambda image: _jpeg(image, 60),
    "JPEG of quality 30": lambda image: _jpeg(image, 30),
    "half the size": lambda image: _scaled(image, 0.5),
    "a third of it, JPEG of quality 50": lambda image: _jpeg(_scaled(image, 1 / 3), 50),
    "twice the size": lambda image: _scaled(image, 2),
    "squashed to a square of 224": lambda image: image.resize((224, 224)),
    "20 % brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "20 % more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.2),
    "turned and mirrored": lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    "a tenth cropped off": lambda image: image.crop((0, 0, round(0.9 * image.width), round(0.9 * image.height))),
}


def of_copies(images: Sequence[Image.Image]) -> dict[str, Any]:
    originals = np.stack([pattern(image) for image in images])
    others = [
        float(likenesses(originals[row : row + 1], np.delete(originals, row, 0))[0][0]) for row in range(len(images))
    ]
    found = {}
    for name, change in CHANGES.items():
        copies = np.stack([pattern(change(image)) for image in images])
        alike = [float(likenesses(copies[row : row + 1], originals[row : row + 1])[0][0]) for row in range(len(images))]
        found[name] = {"found": float((np.array(alike) >= SETTINGS.similarity).mean()), "least": min(alike)}
    taken = float((np.array(others) >= SETTINGS.similarity).mean())
    return {"images": len(images), "most alike others": max(others), "others taken for copies": taken, "copies": found}


def real_images(folder: Path) -> list[Image.Image]:
    with (folder / "labels.csv").open(newline="") as file:
        names = sorted({row["file"] for row in csv.DictReader(file)})
    chosen = np.random.default_rng(0).permutation(len(names))[:MOST_COPIES]
    return [read((folder / names[place]).read_bytes()) for place in sorted(chosen)]


def measure(folder: Path, repeats: int, real: Path | None) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    pool = make_pool(folder, "pool", TAUGHT + VESSELS, 1, USUAL)
    other = make_pool(folder, "other", OTHER_VESSELS, 2, OTHER)
    champion = taught(pool)
    other = other._replace(said=champion.predict(other.described))
    # From here on there are only vessels that it never saw.
    pool = pool._replace(vessels=pool.vessels[TAUGHT:], said=champion.predict(pool.described))
    fresh = np.concatenate(pool.vessels)
    result: dict[str, Any] = {"error": float((pool.said != pool.truth)[fresh].mean()), "images": len(fresh)}
    result["pool"] = {
        f"{tested} vessels known, a batch of {size}": of_the_pool(pool, tested, size, repeats, rng)
        for tested in TESTED
        for size in BATCHES
    }
    result["drawn"] = {
        f"error {error:.0%}, correlation {spread}": of_drawn_errors(error, spread, repeats, rng)
        for error, spread in DRAWN
    }
    result["microscope"] = of_another_microscope(pool, other, max(20, repeats // 4), rng)
    pictures = [read_image(pool.repository, record) for record in pool.records[:MOST_COPIES]]
    result["copies"] = {"simulated": of_copies(pictures)}
    if real is not None:
        result["copies"]["real"] = of_copies(real_images(real))
    return result


def show(result: dict[str, Any]) -> None:
    print(f"the champion is wrong in {result['error']:.1%} of {result['images']} images")
    print(
        f"\nshare of batches stopped, by the share of shuffled labels (stated: {SETTINGS.false_stop:.0%} of right ones)"
    )
    for name, found in result["pool"].items():
        for way, rates in found.items():
            print(f"  {name:34} {way:15}", *(f"{share:>5} {rate:6.1%}" for share, rate in rates.items()))
    print("\nright labels, drawn errors")
    for name, rates in result["drawn"].items():
        print(f"  {name:34}", *(f"{way} {rate:6.1%}  " for way, rate in rates.items()))
    print("\nright labels, another microscope:", {name: round(rate, 3) for name, rate in result["microscope"].items()})
    for kind, found in result["copies"].items():
        print(
            f"\ncopies, {kind}: {found['images']} images, the most alike others {found['most alike others']:.3f}, ",
            end="",
        )
        print(f"{found['others taken for copies']:.2%} taken for copies")
        for name, each in found["copies"].items():
            print(f"  {name:34} found {each['found']:6.1%}   least alike {each['least']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = os.environ.get("MSCFLOW_REAL_DATA")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(given) if given else None)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, observed(lambda _: None):
        result = measure(Path(folder), options.repeats, options.folder)
    show(result)
    print(f"\n{time.perf_counter() - started:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
