"""How long does an epoch take with each backbone, and how well does its export agree?

python benchmarks/backbones.py                     at 128 pixels, 107 training and 34 validation images
python benchmarks/backbones.py --size 300
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from components.models.backbones import names
from components.models.classifier import build_classifier
from components.models.export import export_onnx
from components.models.weights import find_weights, input_of
from components.settings import TrainingSettings
from components.training.data import Part, TrainingData
from components.training.fit import Fit
from components.training.ranks import join_ranks

TRAIN, VALIDATION = 107, 34
EPOCHS = 3  # the first warms up and is not counted


def images(count: int, size: int, seed: int) -> Part:
    rng = np.random.default_rng(seed)
    labels = [1 + number % 4 for number in range(count)]
    return Part.of(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8), labels)


def measure(name: str, size: int, folder: Path) -> str:
    settings = TrainingSettings(backbone=name, image_size=size, epochs=EPOCHS)
    weights = find_weights(name, settings.weights)
    model = build_classifier(name, settings.dropout, weights, seed=0)
    data = TrainingData(images(TRAIN, size, 0), images(VALIDATION, size, 1))
    prep = input_of(settings, weights)
    started = time.process_time()
    with join_ranks() as ranks:
        history = Fit(model, data, settings, 1e-4, prep, ranks, pretrained=weights.pretrained).run().history
    busy = (time.process_time() - started) / EPOCHS
    started = time.perf_counter()
    difference = export_onnx(model, size, folder / "model.onnx")
    exporting = time.perf_counter() - started
    seconds = min(epoch.seconds for epoch in history[1:])
    answer = milliseconds_an_image(folder / "model.onnx", size)
    megabytes = (folder / "model.onnx").stat().st_size / 1e6
    return (
        f"{name:20} {seconds:8.2f} {busy:8.2f} {exporting:8.1f} {megabytes:8.1f} {answer:8.1f} {difference:12.1e}  "
        f"{weights.source}"
    )


def milliseconds_an_image(path: Path, size: int) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    image = {"images": np.zeros((1, 3, size, size), np.float32)}
    times = []
    for _ in range(12):
        started = time.perf_counter()
        session.run(None, image)
        times.append(time.perf_counter() - started)
    return 1000 * sorted(times)[len(times) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=TrainingSettings().image_size)
    size = parser.parse_args().size
    print(f"{TRAIN} + {VALIDATION} images of {size} pixels, {torch.get_num_threads()} threads")
    columns = ("s/epoch", "cpu s", "export s", "MB", "ms/image")
    print(f"{'backbone':20}", *(f"{column:>8}" for column in columns), f"{'difference':>12}  weights")
    with tempfile.TemporaryDirectory() as folder:
        for name in names():
            print(measure(name, size, Path(folder)), flush=True)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
