"""How fast is each backbone trained, what would the study of the paper's size cost, how well do exports agree?

python benchmarks/backbones.py                     images a second in training at 300 pixels, and the study's cost
python benchmarks/backbones.py --export            the export: seconds, size, answer time, difference from PyTorch
python benchmarks/backbones.py --size 128 --backbones vit,alexnet

All of one thread, by its processor time, so that what else the machine does matters little. Training is that of the
`paper` preset: batches of 8, its seven augmentations, a random start. A multiplication and an addition count as two
operations; a training step is counted as three answers (once forth, twice back).
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch.utils.flop_counter import FlopCounterMode

from components.models.backbones import BACKBONES
from components.models.classifier import build_classifier
from components.models.export import export_onnx
from components.models.weights import Weights, input_of
from components.settings import TrainingSettings, load_settings
from components.training.data import Part, TrainingData
from components.training.fit import Fit
from components.training.ranks import Ranks, available_cores

SIX = ("alexnet", "inception_v3", "resnet50", "shufflenet_v2", "mobilenet_v3", "vit")
IMAGES, BATCH = 16, 8
NONE = Weights("none")
BACK = 3  # operations of a training step, in those of an answer

# The study (PAPER: Tasks, Method): five folds of the single-stack images, and of the multi-stack ones raw and
# equalised. Of each fold's training images a fifth chooses the epoch. Per fold a search as in the `paper` preset.
SINGLE, MULTI, FOLDS, VALIDATION, MOST_EPOCHS, USUAL_EPOCHS = 720, 413 * 2, 5, 0.2, 1000, 300
PASSES = (SINGLE + MULTI) * (FOLDS - 1)  # of training and validation images, an epoch of every fold

# What GPUs are taken to sustain on networks of this kind, operations a second, and the least time of a step, which
# is that of starting its kernels: a quarter of the RTX A2000's 32e12 (bfloat16, dense), 15 % of the H100's 989e12.
GPUS = {"RTX A2000 (the paper's)": (8e12, 0.02), "H100": (150e12, 0.02)}


@dataclass(frozen=True)
class Speed:
    name: str
    operations: float  # of an answer
    parameters: int
    seconds: float  # of processor, an image trained


def speed(name: str, size: int) -> Speed:
    settings = paper(name, size)
    model = build_classifier(name, settings.dropout, NONE, seed=0)
    data = TrainingData(pictures(IMAGES, size, 0), pictures(2, size, 1))
    fit = Fit(model, data, settings, 1e-4, input_of(settings, NONE), Ranks(0, 1, torch.device("cpu")), pretrained=False)
    fit.run()  # warms up
    started = time.process_time()
    fit._train(fit.model, 2)
    seconds = (time.process_time() - started) / IMAGES
    return Speed(name, operations(name, size), sum(each.numel() for each in model.parameters()), seconds)


def paper(name: str, size: int) -> TrainingSettings:
    chosen = load_settings(preset="paper").training
    return chosen.model_copy(update={"backbone": name, "image_size": size, "batch_size": BATCH, "epochs": 1})


def operations(name: str, size: int) -> float:
    with torch.device("meta"):
        network, image = BACKBONES[name].build().eval(), torch.empty(1, 3, size, size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return float(counter.get_total_flops())


def pictures(count: int, size: int, seed: int) -> Part:
    rng = np.random.default_rng(seed)
    labels = [1 + number % 4 for number in range(count)]
    return Part.of(rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8), labels)


def report_speeds(names: tuple[str, ...], size: int) -> list[Speed]:
    print(f"{size} pixels, batches of {BATCH}, one thread, {torch.__version__}")
    print(f"{'backbone':20} {'Gops/answer':>12} {'parameters, M':>14} {'images/s trained':>17} {'Gops/s':>7}")
    found = []
    for name in names:
        each = speed(name, size)
        found.append(each)
        told = f"{name:20} {each.operations / 1e9:12.1f} {each.parameters / 1e6:14.1f} {1 / each.seconds:17.2f}"
        print(told, f"{BACK * each.operations / each.seconds / 1e9:7.0f}", flush=True)
    return found


def report_cost(speeds: list[Speed]) -> None:
    cores = available_cores()
    search = load_settings(preset="paper").search
    searched = search.trials * search.epochs
    # A validation image is answered, not trained on.
    worth = (1 - VALIDATION) + VALIDATION / BACK
    print(f"\nthe study at the paper's size, days; {searched} epochs of search a fold and then")
    for epochs in (USUAL_EPOCHS, MOST_EPOCHS):
        passes = PASSES * (epochs + searched) * worth
        print(f"\n{epochs:5} epochs a fold: {passes / 1e6:.1f} million images trained, per backbone")
        header = [f"here ({cores} cores)", *GPUS]
        print(f"{'':20}", *(f"{each:>24}" for each in header))
        totals = np.zeros(len(header))
        for each in speeds:
            days = [passes * each.seconds / cores, *(passes * on_gpu(each, *gpu) for gpu in GPUS.values())]
            totals += np.array(days) / 86400
            print(f"{each.name:20}", *(f"{seconds / 86400:24.1f}" for seconds in days))
        print(f"{'all':20}", *(f"{each:24.1f}" for each in totals))


def on_gpu(each: Speed, sustained: float, step: float) -> float:
    return max(BACK * each.operations / sustained, step / BATCH)


def report_exports(names: tuple[str, ...], size: int) -> None:
    print(f"{'backbone':20} {'export s':>9} {'MB':>7} {'ms/answer':>10} {'difference':>11}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for name in names:
            started = time.process_time()
            difference = export_onnx(build_classifier(name, 0.5, NONE, seed=0), size, path)
            seconds = time.process_time() - started
            megabytes, answer = path.stat().st_size / 1e6, milliseconds_an_answer(path, size)
            print(f"{name:20} {seconds:9.1f} {megabytes:7.1f} {answer:10.1f} {difference:11.1e}", flush=True)


def milliseconds_an_answer(path: Path, size: int) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    image = {"images": np.zeros((1, 3, size, size), np.float32)}
    times = []
    for _ in range(12):
        started = time.process_time()
        session.run(None, image)
        times.append(time.process_time() - started)
    return 1000 * sorted(times)[len(times) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=load_settings(preset="paper").training.image_size)
    parser.add_argument("--backbones", default=",".join((*SIX, "efficientnet_lite0")))
    parser.add_argument("--export", action="store_true")
    options = parser.parse_args()
    names = tuple(options.backbones.split(","))
    torch.set_num_threads(1)
    if options.export:
        report_exports(names, options.size)
        return
    speeds = report_speeds(names, options.size)
    report_cost([each for each in speeds if each.name in SIX])


if __name__ == "__main__":
    main()
