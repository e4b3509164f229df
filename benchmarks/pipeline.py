"""What does the pipeline cost beyond its steps? `mscflow run` against its step functions called in one process.

python benchmarks/pipeline.py                          simulated cultures, the quick preset
python benchmarks/pipeline.py --data photos/           images of your own
python benchmarks/pipeline.py --images 60 --set training.epochs=2 --json

Both begin with an empty home and do the same work; the functions' process imports what it needs, and
that counts. Then the same run again, all of whose work is cached. Memory is the largest sum over the
run's processes, in which shared pages count once (PSS); the endpoint that a run leaves behind is in it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from components.settings import Settings, load_settings
from pipelines.cli.run import parse_assignments

MSCFLOW = Path(sys.executable).with_name("mscflow")


def call_steps(settings: Settings, source: str, output: Path) -> dict[str, float]:
    """Call each step's function, one after the other, and give the seconds that each took."""
    from components.datasets import steps as data
    from components.deployment import steps as deployment
    from components.evaluation import steps as evaluation
    from components.registry import steps as registry
    from components.training import steps as training
    from components.tuning import steps as tuning

    seconds: dict[str, float] = {}
    store, home, uri = settings.store_uri, settings.home, settings.mlflow_uri

    def timed(name: str, function: Any, *arguments: Any, **named: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments, **named)
        seconds[name] = round(time.perf_counter() - started, 3)
        return result

    taken = timed("snapshot", data.snapshot, source, store, settings.data, settings.modality, home)
    valid = timed("validate", data.validate, store, taken["data_version"], settings.data, home)
    version, lineage = valid["data_version"], taken["ref"]
    split = timed("split", data.split, store, version, lineage, settings.split)["split_id"]
    trials, model, bundle = output / "trials.json", output / "model", output / "bundle"
    found = timed("search", tuning.search, store, split, settings.search, settings.training, trials, home, uri)
    rate = found["best_lr"]
    timed("train", training.train, store, split, rate, settings.training, model, home, settings.modality, uri)
    context = {"modality": settings.modality, "data_version": version, "lineage": lineage}
    timed("evaluate", evaluation.evaluate, store, split, model, trials, bundle, home, **context)
    made = timed("register", registry.register, bundle, uri)
    name, number = made["name"], made["version"]
    timed("promote", registry.promote, name, number, store, split, uri, settings.gate, home)
    served = timed("deploy", deployment.deploy, name, number, uri, home, settings.serving)
    timed("verify", deployment.verify_known, served["url"], name, served["digest"], uri, home)
    return seconds


class Memory:
    """Watches how much memory this process's descendants hold together."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.3):
            total = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def run(home: Path, source: str, assignments: list[str]) -> tuple[float, dict[str, Any]]:
    """Run the command; give its wall time, start of the interpreter included, and its answer."""
    started = time.perf_counter()
    done = subprocess.run(
        [MSCFLOW, "--home", home, "run", "--data", source, "--json", *_options(assignments)],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    return seconds, json.loads(done.stdout.splitlines()[0])


def steps_alone(home: Path, source: str, assignments: list[str]) -> tuple[float, dict[str, float]]:
    """Run the functions in a fresh process; give its wall time and theirs."""
    command = [sys.executable, __file__, "--steps", str(home), "--data", source, *_options(assignments)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - started, json.loads(done.stdout)


def stop(home: Path) -> None:
    subprocess.run([MSCFLOW, "--home", home, "serve", "--stop"], capture_output=True, check=False)


def _options(assignments: list[str]) -> list[str]:
    return [word for each in assignments for word in ("--set", each)]


def compare(folder: Path, source: str, assignments: list[str]) -> dict[str, Any]:
    # A model that the gate refuses would not be deployed, and less work be compared.
    given = ["gate.min_accuracy=0", "gate.min_within_one_class=0", "gate.max_missed_overgrowth=1"]
    given += ["gate.beat_majority=false", "serving.port=0", "serving.grpc_port=0", "data.ref=benchmark", *assignments]
    alone, functions = steps_alone(folder / "steps", source, given)
    stop(folder / "steps")
    with Memory() as memory:
        whole, first = run(folder / "run", source, given)
    cached, again = run(folder / "run", source, given)
    stop(folder / "run")
    return {
        "run_s": round(whole, 2),
        "steps_in_one_process_s": round(alone, 2),
        "sum_of_step_functions_s": round(sum(functions.values()), 2),
        "run_over_process": round(whole / alone, 3),
        "run_over_functions": round(whole / sum(functions.values()), 3),
        "cached_run_s": round(cached, 2),
        "cached": sorted(again["cached"]),
        "peak_memory_mb": round(memory.peak / 1e6),
        "seconds_in_run": first["seconds"],
        "seconds_of_functions": functions,
        "accuracy": first["metrics"]["accuracy"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of images; default: simulated ones")
    parser.add_argument("--images", type=int, default=240, help="images to simulate")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--steps", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.steps:
        settings = load_settings(home=options.steps, **parse_assignments(tuple(options.assignments)))
        print(json.dumps(call_steps(settings, options.data, options.steps / "out")))
        return
    folder = Path(tempfile.mkdtemp(prefix="mscflow-benchmark-"))
    try:
        source = options.data or str(folder / "cultures")
        if not options.data:
            command = [MSCFLOW, "data", "simulate", source, "--images", str(options.images)]
            subprocess.run(command, check=True, capture_output=True)
        found = compare(folder, source, options.assignments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
