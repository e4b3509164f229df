"""How fast are data versions made, beside DVC, and how do they grow?

python benchmarks/snapshot.py                    20,000 files of 50 kB, whole commands, in turn with `dvc add`
python benchmarks/snapshot.py --rows 1000000     manifests of a million rows: add, read, compare, divide
python benchmarks/snapshot.py --json

DVC is installed into an environment of its own below --cache, once, with uv. `first` takes the whole folder, `1 %`
after one file of a hundred was written anew, `unchanged` at once again; a figure is the median of the rounds, each of
which starts from nothing. Both commands keep the bytes once more, in their own store, on the same disk.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.culture import CLASSES
from components.datasets.manifest import ImageRecord
from components.datasets.splits import make_split
from components.datasets.versions import DataRepository
from components.events import observed
from components.settings import SplitSettings
from components.storage import open_store

PIN = "dvc[s3]==3.67.1"
BIN = Path(sys.executable).parent
SETTLE = 2.5  # seconds until files count as settled
Ways = dict[str, Callable[[], None]]


def install(cache: Path) -> Path:
    dvc = cache.absolute() / "dvc" / "bin" / "dvc"
    if not dvc.exists():
        print(f"installing {PIN}", file=sys.stderr, flush=True)
        python = dvc.with_name("python")
        subprocess.run([BIN / "uv", "venv", "--quiet", dvc.parents[1]], check=True)
        subprocess.run([BIN / "uv", "pip", "install", "--quiet", "--python", python, PIN], check=True)
    return dvc


def fill(folder: Path, files: int, size: int, *, every: int = 1) -> None:
    for number in range(0, files, every):
        path = folder / str(number % 4 + 1) / f"vessel {number // 200:04}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def call(command: list[Any], folder: Path) -> None:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr[-2000:]}")


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def one_round(folder: Path, dvc: Path, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Both tools on the same files, each on a copy of its own."""
    ours, theirs = folder / "ours", folder / "theirs"
    for place in (ours, theirs):
        place.mkdir(parents=True)
    fill(ours / "images", given.files, given.size)
    shutil.copytree(ours / "images", theirs / "images")
    call([dvc, "init", "--no-scm", "--quiet"], theirs)
    ways: Ways = {
        "dvc": lambda: call([dvc, "add", "--quiet", "images"], theirs),
        "mscflow": lambda: call([BIN / "mscflow", "--home", "home", "data", "snapshot", "images"], ours),
    }
    told: dict[str, dict[str, float]] = {}
    for name in ("first", "1 %", "unchanged"):
        if name == "1 %":
            for place in (ours, theirs):
                fill(place / "images", given.files, given.size, every=100)
        os.sync()
        time.sleep(SETTLE)
        told[name] = {tool: seconds(way) for tool, way in ways.items()}
    return told


def compare(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    told = {}
    for name in rounds[0]:
        tools = {tool: [each[name][tool] for each in rounds] for tool in rounds[0][name]}
        ratios = [other / own for other, own in zip(tools["dvc"], tools["mscflow"], strict=True)]
        told[name] = {tool: round(statistics.median(each), 2) for tool, each in tools.items()}
        told[name] |= {"ratio": round(statistics.median(ratios), 2), "from": round(min(ratios), 2)}
        told[name] |= {"to": round(max(ratios), 2)}
    return told


def measure_local(given: argparse.Namespace, dvc: Path) -> dict[str, Any]:
    rounds = []
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as temporary:
            rounds.append(one_round(Path(temporary), dvc, given))
    return compare(rounds)


def measure_rows(rows: int) -> dict[str, Any]:
    def records(changed: int) -> Iterator[ImageRecord]:
        for number in range(rows):
            sha256 = hashlib.sha256(b"%d %d" % (number, number % 100 < changed)).hexdigest()
            name = f"vessel {number // 200:05}/day {number % 40}/{number:07}.png"
            label, vessel = CLASSES[number % len(CLASSES)], f"{number // 200}"
            yield ImageRecord(path=name, sha256=sha256, size=50_000, vessel=vessel, confluence_class=label)

    told: dict[str, Any] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        result = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        told[name] = {"seconds": round(time.perf_counter() - started, 2), "peak_mb": round(peak)}
        return result

    with tempfile.TemporaryDirectory() as temporary, observed(lambda _: None):
        repository = DataRepository(open_store(f"{temporary}/store"))
        one = timed("add", lambda: repository.add_version(records(0)))
        other = repository.add_version(records(1))
        timed("read", lambda: sum(1 for _ in repository.records(one)))
        timed("diff, 1 % changed", lambda: repository.diff(one, other).changed)
        timed("log", lambda: (repository.extend("main", one, message="m"), repository.log("main")))
        timed("split", lambda: make_split(repository, one, "main", SplitSettings()))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=50_000, help="bytes of a file")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="measure manifests instead of files")
    parser.add_argument("--cache", type=Path, default=Path(".mscflow/benchmark"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    told = measure_rows(given.rows) if given.rows else measure_local(given, install(given.cache))
    if given.json:
        print(json.dumps(told, indent=2))
        return
    for name, figures in told.items():
        print(f"{name:20}", "  ".join(f"{key} {value}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
