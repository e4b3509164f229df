"""The rivals, each in an environment of its own, and how each is started at its best on this machine.

Each runs one process a core, with one thread of inference in it: more processes or threads only share the cores,
and threads of one process also share Python's lock. What a rival logs of each request is switched off, where it can
be; the endpoint's own log stays on.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from endpoints.load import HOST, in_json, post
from endpoints.server import SAME_ALLOCATOR, Recipe

# Exact, so that figures can be had again; what they depend on is resolved anew and recorded in the report.
PINS = {
    "mlflow": "mlflow==3.17.2",
    "litserve": "litserve==0.2.19",
    "bentoml": "bentoml==1.4.39",  # 1.4.40 wants a certifi that is not in every index
}
# The libraries that do the work are the endpoint's own releases. uvloop and httptools are what uvicorn is fastest with.
COMMON = ("onnxruntime", "numpy", "pillow", "pydantic", "uvloop", "httptools")
RIVALS = Path(__file__).parent / "rivals"
ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")


def install(name: str, folder: Path) -> Path:
    """Make the environment of a rival, unless it is there, and give its Python.

    Raises:
        SystemExit: if it cannot be had.
    """
    python = folder / name / "bin" / "python"
    done = folder / name / "pins.txt"
    wanted = [PINS[name], *(f"{each}=={version(each)}" for each in COMMON)]
    if done.exists() and done.read_text().split() == wanted:
        return python
    print(f"installing {' '.join(wanted)}", file=sys.stderr, flush=True)
    for command in (
        [UV, "venv", "--quiet", "--clear", "--python", sys.executable, folder / name],
        [UV, "pip", "install", "--quiet", "--python", python, *wanted],
    ):
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode:
            raise SystemExit(f"{name} cannot be installed:\n{found.stderr[-2000:]}")
    done.write_text("\n".join(wanted))
    return python


def recipe(name: str, python: Path, bundle: Path, folder: Path, workers: int) -> Recipe:
    """How a rival is started on a bundle, with so many processes."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        # A rival's commands start others by name.
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{RIVALS}",
        "BENCHMARK_BUNDLE": str(bundle),
        "BENCHMARK_WORKERS": str(workers),
        "BENTOML_DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "UVICORN_ACCESS_LOG": "false",
        **SAME_ALLOCATOR,
    }
    return _RECIPES[name](python, bundle, folder, environment)


def _mlflow(python: Path, bundle: Path, folder: Path, environment: dict[str, str]) -> Recipe:
    model, workers = folder / "model", environment["BENCHMARK_WORKERS"]
    if not model.exists():
        command_line = [str(python), str(RIVALS / "mlflow_app.py"), str(bundle), str(model)]
        subprocess.run(command_line, check=True, capture_output=True, env={**os.environ, **environment})

    def command(port: int) -> list[str]:
        options = ["--env-manager", "local", "--workers", workers, "--host", HOST, "--port", str(port)]
        return [str(python.with_name("mlflow")), "models", "serve", "--model-uri", str(model), *options]

    def request(image: bytes) -> bytes:
        return post("/invocations", in_json({"inputs": ["IMAGE"]}, image))

    told = f"pyfunc, {workers} workers"
    return Recipe("mlflow models serve", command, folder, "/ping", request, environment, told)


def _litserve(python: Path, bundle: Path, folder: Path, environment: dict[str, str]) -> Recipe:
    workers = environment["BENCHMARK_WORKERS"]

    def command(port: int) -> list[str]:
        return [str(python), str(RIVALS / "litserve_app.py"), str(bundle), str(port), workers]

    told = f"{workers} workers, as many API servers"
    return Recipe("LitServe", command, folder, "/health", _image_request, environment, told)


def _bentoml(python: Path, bundle: Path, folder: Path, environment: dict[str, str]) -> Recipe:
    def command(port: int) -> list[str]:
        options = ["--working-dir", str(RIVALS), "--host", HOST, "--port", str(port)]
        return [str(python.with_name("bentoml")), "serve", "bentoml_app:Confluence", *options]

    told = f"{environment['BENCHMARK_WORKERS']} workers"
    return Recipe("BentoML", command, folder, "/readyz", _image_request, environment, told)


def _image_request(image: bytes) -> bytes:
    return post("/predict", in_json({"image": "IMAGE"}, image))


_RECIPES: dict[str, Callable[[Path, Path, Path, dict[str, str]], Recipe]] = {
    "mlflow": _mlflow,
    "litserve": _litserve,
    "bentoml": _bentoml,
}
