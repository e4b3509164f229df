"""How fast is the endpoint, beside the bare limit and beside other servers of the same model?

python benchmarks/serving.py limit        against decoding, preprocessing and ONNX Runtime in a loop
python benchmarks/serving.py rivals       against `mlflow models serve`, LitServe and BentoML, each installed into an
                                          environment of its own below --cache (1.1 GB, once)
python benchmarks/serving.py residence    time to readiness, memory, health while it works
python benchmarks/serving.py batching     what an image costs in batches of 1 to 8
python benchmarks/serving.py threads      which settings of threads are best on this machine
python benchmarks/serving.py all --json   all of these, in about ten minutes
python benchmarks/serving.py memory       memory on the way to 100,000 requests, with a light model and small images

Requests are images of a megapixel as base64 in JSON (protocol v1): colour JPEG of quality 90 and grey PNG in turn,
drawn by the project's simulator. Networks are those of the study with random weights. What is compared is measured in
turn, round by round, in one run: ratios are those of a round, and the median of the rounds stands with the least and
most. The clients share the cores with the server; how much processor time they take is told.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from endpoints import contest, environments, limit, models, report, residence, tuning
from endpoints.report import Row
from endpoints.server import endpoint

from components.bundle import BUNDLE_FILE

CORES = len(os.sched_getaffinity(0))
LIGHT, LIGHT_SIZE, LIGHT_SIDE = "mobilenet_v3", 32, 64


class Benchmark:
    """The parts of this benchmark, on one set of models and images."""

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options, self.scratch = options, scratch
        self.cache: Path = options.cache.absolute()
        images = models.draw_images(self.cache / "images", options.side)
        self.plan = limit.Plan(images, options.rounds, options.seconds, options.clients)

    def bundles(self) -> list[Path]:
        if self.options.bundle:
            return [self.options.bundle.absolute()]
        make, place = models.make_bundle, self.cache / "models"
        names = self.options.backbones.split(",")
        return [make(place, name, self.options.size, novelty=self.options.novelty) for name in names]

    def limit(self, bundle: Path) -> list[Row]:
        return list(limit.against_bare(self._endpoint(bundle), bundle, self.plan, CORES))

    def rivals(self, bundle: Path) -> list[Row]:
        recipes = [self._endpoint(bundle)]
        for name in self.options.rivals.split(","):
            python = environments.install(name, self.cache / "environments")
            recipes.append(environments.recipe(name, python, bundle, self.scratch / f"{name}-{bundle.name}", CORES))
        return list(contest.contest(recipes, self.plan))

    def residence(self, bundle: Path) -> list[Row]:
        return list(residence.residence(self._endpoint(bundle), self.plan))

    def batching(self, bundle: Path) -> list[Row]:
        size = json.loads((bundle / BUNDLE_FILE).read_bytes())["preprocessing"]["size"]
        return list(tuning.batching(bundle, size, CORES))

    def threads(self, bundle: Path) -> list[Row]:
        return list(tuning.threads(bundle, self.scratch / "threads", self.plan, CORES))

    def memory(self, bundle: Path) -> list[Row]:
        images = [path for group in models.draw_images(self.cache / "images", LIGHT_SIDE).values() for path in group]
        recipe = self._endpoint(bundle)
        return list(residence.memory(recipe, images, self.options.requests, self.options.clients))

    def light(self) -> list[Path]:
        return (
            [models.make_bundle(self.cache / "models", LIGHT, LIGHT_SIZE)]
            if not self.options.bundle
            else self.bundles()
        )

    def _endpoint(self, bundle: Path) -> Any:
        return endpoint(bundle, self.scratch / "endpoint", *self.options.set)


def run(benchmark: Benchmark, part: str) -> dict[str, dict[str, list[Row]]]:
    """Give the rows of each part, by model."""
    parts: dict[str, Callable[[Path], list[Row]]] = {
        "limit": benchmark.limit,
        "rivals": benchmark.rivals,
        "residence": benchmark.residence,
        "batching": benchmark.batching,
        "threads": benchmark.threads,
    }
    if part == "memory":
        return {part: {bundle.name: benchmark.memory(bundle) for bundle in benchmark.light()}}
    found: dict[str, dict[str, list[Row]]] = {}
    for name in parts if part == "all" else [part]:
        # Threads are tried with the first model alone: eight servers a round are enough.
        bundles = benchmark.bundles()[: 1 if name == "threads" else None]
        found[name] = {bundle.name: parts[name](bundle) for bundle in bundles}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("limit", "rivals", "residence", "batching", "threads", "memory", "all")
    parser.add_argument("part", choices=parts)
    parser.add_argument("--backbones", default="mobilenet_v3,resnet50")
    parser.add_argument("--size", type=int, default=300, help="side of the networks' input, pixels")
    parser.add_argument("--novelty", action="store_true", help="the endpoint also tells whether images are familiar")
    parser.add_argument("--bundle", type=Path, help="folder of a model to measure instead")
    parser.add_argument("--side", type=int, default=models.SIDE, help="side of the images, pixels")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement")
    parser.add_argument("--requests", type=int, default=100_000, help="of `memory`")
    parser.add_argument("--rivals", default="mlflow,litserve,bentoml")
    parser.add_argument("--cache", type=Path, default=Path(".mscflow/benchmark"), help="models, images, environments")
    parser.add_argument("--set", nargs=argparse.REMAINDER, default=[], help="options of the endpoint, the last of all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mscflow-benchmark-") as scratch:
        found = run(Benchmark(options, Path(scratch)), options.part)
    if options.json:
        print(json.dumps({"cores": CORES, **found}))
        return
    for part, models_found in found.items():
        for name, rows in models_found.items():
            print(f"\n{part}, {name}, {CORES} cores\n{report.table(rows)}")


if __name__ == "__main__":
    main()
