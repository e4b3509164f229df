"""Processes that write at the same time, or are killed while they do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.datasets.versions import DataRepository
from components.storage import ObjectStore

# Adds five batches of one image to a ref, each as soon as the one before is in; starts when told.
WRITER = """
import sys
from pathlib import Path
from components.datasets.source import SourceImage
from components.datasets.versions import DataRepository
from components.storage import open_store

store, folder, cache = sys.argv[1:]
source, repository = open_store(folder), DataRepository(open_store(store), cache=Path(cache))
name, lost = source.root.name, 0
print("ready", flush=True)
sys.stdin.readline()
for number in range(5):
    source.write(f"{name}/{number}.png", f"{name}{number}".encode())
    images = (SourceImage(info.key, info, info.key) for info in source.list())
    lost += repository.snapshot(source, images, ref="main", message=f"{name}{number}", extend=True).lost_races
print(lost)
"""

# Makes snapshots of ever new images in child processes that it kills at random moments. After each
# kill it verifies the ref's version and lets the snapshot finish; at the end it verifies everything.
# Prints what it saw, as JSON.
KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
from components.datasets.source import SourceImage
from components.datasets.versions import DataRepository
from components.storage import open_store

store_uri, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance = random.Random(0)
source = open_store(folder + "/source")

def snapshot(number):
    repository = DataRepository(open_store(store_uri), cache=Path(folder, "cache"))
    images = (SourceImage(info.key, info, info.key) for info in source.list())
    return repository.snapshot(source, images, ref="main", message=str(number), extend=True)

def temporary_files():
    internal = Path(store_uri, ".mscflow-tmp")
    return [path.name for path in internal.iterdir() if path.suffix != ".lock"] if internal.exists() else []

def new_images(number):
    for image in range(30):
        source.write(f"{image}.png", f"{number} {image}".encode() * 2000)

seen = {"killed": 0, "finished": 0, "partial": 0, "leftovers": 0}
new_images("first")
before = snapshot("first").version
new_images("second")
started = time.perf_counter()
before = snapshot("second").version
usual = time.perf_counter() - started
for number in range(rounds):
    new_images(number)
    blobs = sum(1 for _ in open_store(store_uri).list("blobs/"))
    child = os.fork()
    if child == 0:
        snapshot(number)
        os._exit(0)
    time.sleep(chance.uniform(0, 1.3 * usual))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    seen["killed" if os.WIFSIGNALED(status) else "finished"] += 1
    seen["leftovers"] += bool(temporary_files())
    repository = DataRepository(open_store(store_uri))
    seen["partial"] += 0 < sum(1 for _ in repository.store.list("blobs/")) - blobs < 30
    now = repository.resolve("main")
    report = repository.verify(now)
    assert report.clean, (number, report)
    finished = snapshot(number)
    assert now in (before, finished.version), (number, now)
    assert finished.images == 30
    assert [r.sha256 for r in repository.records(finished.version)] != [r.sha256 for r in repository.records(before)]
    assert not temporary_files(), temporary_files()
    log = repository.log("main")
    assert [entry.message for entry in log[:1]] == [str(number)] and len(log) == number + 3
    before = finished.version
report = DataRepository(open_store(store_uri)).verify()
assert report.clean, report
print(json.dumps(seen))
"""


def test_two_processes_at_once_lose_nothing(store: ObjectStore, tmp_path: Path) -> None:
    commands = [
        [sys.executable, "-c", WRITER, store.uri, str(tmp_path / name), str(tmp_path / "cache")] for name in "ab"
    ]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for command in commands]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
    assert [writer.returncode for writer in writers] == [0, 0]
    repository = DataRepository(store)
    records = repository.records(repository.resolve("main"))
    assert [record.path for record in records] == [f"{name}/{number}.png" for name in "ab" for number in range(5)]
    log = repository.log("main")
    assert sorted(entry.message for entry in log) == [f"{name}{number}" for name in "ab" for number in range(5)]
    assert len({entry.version for entry in log}) == 10
    assert repository.verify().clean


@pytest.mark.slow
def test_a_snapshot_may_be_killed_at_any_moment(store: ObjectStore, tmp_path: Path) -> None:
    rounds = int(os.environ.get("KILL_ROUNDS") or (8 if store.remote else 30))
    (tmp_path / "source").mkdir()
    command = [sys.executable, "-c", KILLER, store.uri, str(tmp_path), str(rounds)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["killed"] + seen["finished"] == rounds
    assert seen["killed"] >= rounds // 3
    assert seen["partial"] >= 1
