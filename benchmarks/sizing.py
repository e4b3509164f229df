"""How much storage, time and money do 10 thousand, 1 million and 100 million images take?

python benchmarks/sizing.py                                measure here, then calculate, about two minutes
python benchmarks/sizing.py --side 2048 --epochs 50        images of 4 megapixels, other training
python benchmarks/sizing.py --json                         what was measured, and what follows

Each cost of an image is the difference between two sample sizes, divided by their distance, so that what a step costs
at its start does not count. All else follows by multiplication: the assumptions are options, and are printed.
"""

import argparse
import hashlib
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.culture import CLASSES, Modality
from components.datasets import steps
from components.datasets.arrays import load_arrays
from components.datasets.manifest import ImageRecord
from components.datasets.simulation import simulate
from components.datasets.splits import make_split
from components.datasets.versions import DataRepository
from components.events import observed
from components.imaging import Preprocessing
from components.settings import DataSettings, SplitSettings
from components.storage import open_store

SIZES = (10_000, 1_000_000, 100_000_000)
SAMPLES = (60, 180)
ROWS = (20_000, 200_000)
HOUR, DAY = 3600, 86_400
Costs = dict[str, float]


def slope(measure: Callable[[int], Costs], small: int, large: int) -> Costs:
    """Costs of one more, from two sizes."""
    first, second = measure(small), measure(large)
    return {name: (second[name] - first[name]) / (large - small) for name in first}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure_images(side: int, image_size: int, count: int) -> Costs:
    """Bytes and seconds of a sample of images, with the pipeline's own steps on a local store."""
    with tempfile.TemporaryDirectory() as temporary, observed(lambda _: None):
        folder = Path(temporary)
        simulate(folder / "source", images=count, modality=Modality.SINGLE_STACK, size=(side, side))
        time.sleep(2.5)  # until the files count as settled
        store, home = str(folder / "store"), folder / "home"
        options = DataSettings(ref="sizing")
        snapshot, taken = timed(lambda: steps.snapshot(str(folder / "source"), store, options, None, home))
        validate, valid = timed(lambda: steps.validate(store, taken["data_version"], options, home))
        repository = DataRepository(open_store(store), cache=home / "cache")
        records = list(repository.records(valid["data_version"]))
        prep = Preprocessing(size=image_size)
        decode, _ = timed(lambda: load_arrays(repository, records, prep, folder / "decoded"))
        return {
            "store_bytes": size_of(folder / "store" / "blobs"),
            "decoded_bytes": size_of(folder / "decoded"),
            "snapshot_s": snapshot,
            "validate_s": validate,
            "decode_s": decode,
        }


def rows(count: int) -> Iterator[ImageRecord]:
    for number in range(count):
        vessel = number // 200
        sha256 = hashlib.sha256(str(number).encode()).hexdigest()
        name = f"vessel {vessel:06}/day {number % 40}/{number:09}.png"
        label = CLASSES[number % len(CLASSES)]
        more = {"vessel": f"{vessel:06}", "day": number % 40, "position": "0-0", "donor": "D-1", "lot": "L-1"}
        yield ImageRecord(path=name, sha256=sha256, size=500_000, confluence_class=label, **more)


def measure_rows(count: int) -> Costs:
    """Bytes, seconds and memory of a manifest, and of dividing it."""
    with tempfile.TemporaryDirectory() as temporary, observed(lambda _: None):
        folder = Path(temporary)
        repository = DataRepository(open_store(folder / "store"), cache=folder / "cache")
        version = repository.add_version(rows(count))
        split, _ = timed(lambda: make_split(repository, version, "sizing", SplitSettings()))
        tracemalloc.start()
        held = list(repository.records(version))
        memory, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(held) == count
        return {"manifest_bytes": size_of(folder / "store" / "manifests"), "split_s": split, "memory_bytes": memory}


def calculate(images: int, one: Costs, given: argparse.Namespace) -> Costs:
    """What a number of images takes; gigabytes are 10^9 bytes, prices in dollars."""
    stored = images * one["store_bytes"] / 1e9
    trained = images * given.share * given.epochs * given.fits / given.gpu_rate
    return {
        "store_gb": stored,
        "manifest_gb": images * one["manifest_bytes"] / 1e9,
        "decoded_gb": 2 * images * given.share * one["decoded_bytes"] / 1e9,
        "memory_gb": images * one["memory_bytes"] / 1e9,
        "first_snapshot_h": images * one["snapshot_s"] / HOUR,
        "first_validate_h": images * one["validate_s"] / HOUR,
        "split_s": images * one["split_s"],
        "decode_core_h": images * given.share * one["decode_s"] / HOUR,
        "training_gpu_h": trained / HOUR,
        "training_days_on_gpus": trained / DAY / given.gpus,
        "storage_usd_a_month": stored * given.storage_price,
        "training_usd": trained / HOUR * given.gpu_price,
    }


def table(figures: dict[int, Costs]) -> str:
    head = ["| | " + " | ".join(f"{count:,}" for count in figures) + " |", "| --- |" + " --- |" * len(figures)]
    names = next(iter(figures.values()))
    return "\n".join(
        head + [f"| {name} | " + " | ".join(said(each[name]) for each in figures.values()) + " |" for name in names]
    )


def said(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=1024, help="of the microscope's images, pixels (%(default)s)")
    parser.add_argument("--image-size", type=int, default=300, help="of the network's images (%(default)s)")
    parser.add_argument("--share", type=float, default=0.8, help="of the images that is learnt from or chosen by")
    parser.add_argument("--epochs", type=int, default=30, help="of one fit (%(default)s)")
    parser.add_argument("--fits", type=float, default=3.0, help="the search counted in fits, and the fit (%(default)s)")
    parser.add_argument("--gpu-rate", type=float, default=1500.0, help="images a second of one GPU (%(default)s)")
    parser.add_argument("--gpus", type=int, default=8, help="that share the training (%(default)s)")
    parser.add_argument("--gpu-price", type=float, default=3.0, help="dollars an hour of one GPU (%(default)s)")
    parser.add_argument("--storage-price", type=float, default=0.023, help="dollars a GB and month (%(default)s)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    one = slope(lambda count: measure_images(given.side, given.image_size, count), *SAMPLES)
    measure_rows(ROWS[0])  # what is imported at the first use counts for neither
    one |= slope(measure_rows, *ROWS)
    figures = {count: calculate(count, one, given) for count in SIZES}
    if given.json:
        print(json.dumps({"assumed": vars(given), "an_image": one, "figures": figures}, indent=2))
        return
    print("assumed:", ", ".join(f"{name} {value}" for name, value in vars(given).items() if name != "json"))
    print("an image:", ", ".join(f"{name} {value:.3g}" for name, value in one.items()))
    print(table(figures))


if __name__ == "__main__":
    main()
