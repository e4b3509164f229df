"""What do containers cost? The training pipeline with each step in a container against the same on this machine.

python benchmarks/containers.py                        60 simulated cultures, the quick preset, 2 epochs
python benchmarks/containers.py --images 200 --set training.epochs=16 --json

Both end at the gate, which waits for a person, and begin with an empty home and no cache. In containers a step finds no
home, but S3 and MLflow in containers beside it; on this machine they are a folder and sqlite. What the servers take to
start is told by itself. The images must be there (make images), and the tools that start an engine, as for
make test-cluster.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from components.images import CONTROL, PREDICT, TRAIN
from components.settings import load_settings
from pipelines.cli.run import parse_assignments
from pipelines.local import run_train_pipeline
from tests.containers import Docker, started
from tests.pipelines.contained import STORE, contained

MSCFLOW = Path(sys.executable).with_name("mscflow")
IMAGES = {"control": CONTROL, "train": TRAIN, "predict": PREDICT}


def here(given: dict[str, Any], folder: Path, source: Path) -> dict[str, float]:
    """Run on this machine; give the seconds, by step and in all."""
    settings = load_settings(**given, home=str(folder / "home"))
    return run_train_pipeline(settings, str(source), lambda _: None).seconds


def in_containers(given: dict[str, Any], folder: Path, source: Path) -> dict[str, float]:
    """Run each step in a container; give the seconds that the servers took to start, and the run."""
    with started("engine") as environment, Docker(environment) as docker:
        begun = time.perf_counter()
        with contained(docker, IMAGES, folder) as world:
            servers = time.perf_counter() - begun
            ended = world.run(load_settings(**given, store=STORE), world.put(source, "cultures"))
    if ended.code:
        raise SystemExit(ended.log[-3000:])
    return {"servers": round(servers, 3), "total": round(ended.seconds, 3)}


def main() -> None:
    """Run both and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60, help="simulated cultures")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting, such as on run")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    given = parse_assignments(["training.epochs=2", *options.set, "gate.policy=approval"])
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command = [MSCFLOW, "data", "simulate", "cultures", "--images", str(options.images)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        source = folder / "cultures"
        found = {"here": here(given, folder, source), "in_containers": in_containers(given, folder, source)}
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"on this machine  {found['here']['total']:7.1f} s")
    print(f"in containers    {found['in_containers']['total']:7.1f} s")
    print(f"their servers    {found['in_containers']['servers']:7.1f} s")


if __name__ == "__main__":
    main()
