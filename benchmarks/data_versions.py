"""How fast are data versions made, made again, verified, checked out and compared?

python benchmarks/data_versions.py                    20,000 files of 50 kB in a temporary folder
python benchmarks/data_versions.py --store s3://B/P   the same into S3
python benchmarks/data_versions.py --rows 1000000     manifests of a million rows
"""

import argparse
import hashlib
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from components.datasets.manifest import ImageRecord
from components.datasets.source import SourceImage
from components.datasets.versions import DataRepository
from components.storage import open_store


def timed(name: str, work: Callable[[], object]) -> object:
    started, processor = time.perf_counter(), time.process_time()
    result = work()
    seconds, busy = time.perf_counter() - started, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:32} {seconds:7.2f} s  {busy:7.2f} s of processor  peak {peak:5.0f} MB")
    return result


def measure_files(folder: Path, store_uri: str, files: int, size: int) -> None:
    for number in range(files):
        path = folder / "source" / f"vessel {number // 200:04}" / f"{number:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    time.sleep(2.5)  # until the files count as settled
    source = open_store(folder / "source")
    repository = DataRepository(open_store(store_uri), cache=folder / "cache")

    def snapshot() -> str:
        images = (SourceImage(info.key, info, info.key) for info in source.list())
        return repository.snapshot(source, images, ref="benchmark", message="benchmark").version

    version = str(timed(f"snapshot of {files} files", snapshot))
    timed("the same again", snapshot)
    source.write("one more.png", b"1")
    timed("with one more", snapshot)
    timed("verify", lambda: repository.verify(version))
    timed("checkout", lambda: repository.checkout(version, folder / "out"))


def measure_rows(folder: Path, rows: int) -> None:
    repository = DataRepository(open_store(folder / "store"))

    def records(changed: int) -> Iterator[ImageRecord]:
        for number in range(rows):
            sha256 = hashlib.sha256(b"%d %d" % (number, number % 100 < changed)).hexdigest()
            name = f"vessel {number % 500:04}/day {number % 40}/{number:07}.png"
            yield ImageRecord(path=name, sha256=sha256, size=50_000, vessel=f"{number % 500}", day=number % 40)

    one = str(timed(f"add {rows} rows", lambda: repository.add_version(records(0))))
    other, others = (repository.add_version(records(changed)) for changed in (1, 100))
    timed("read them", lambda: sum(1 for _ in repository.records(one)))
    timed("diff, 1 % changed", lambda: repository.diff(one, other).changed)
    timed("diff, all changed", lambda: repository.diff(one, others).changed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=50_000, help="bytes of a file")
    parser.add_argument("--rows", type=int, help="measure manifests instead of files")
    parser.add_argument("--store", help="URI of an empty store; default: a temporary folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if given.rows:
            measure_rows(Path(temporary), given.rows)
        else:
            measure_files(Path(temporary), given.store or f"{temporary}/store", given.files, given.size)
