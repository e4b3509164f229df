"""What a model costs to run: the time that one image takes, measured here and now, and the size of the network."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from components.bundle import KNOWN_IMAGE_FILE, MODEL_FILE, read_any_bundle
from components.errors import IntegrityError
from components.evaluation.verdict import Rule, weigh
from components.imaging import preprocess
from components.settings import GateSettings

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Rounds in which each model answers in turn, after one that is not counted; a slow model gets fewer.
_ROUNDS, _SECONDS = 15, 4.0

Answer = Callable[[], object]


class Costs(NamedTuple):
    """What a challenger costs, and the champion beside it.

    Attributes:
        latency: Seconds that one image takes on one thread, the median of several.
        champion_latency: The champion's, measured in turn with it; None if there is none.
        size: Bytes of the exported network.
    """

    latency: float
    champion_latency: float | None
    size: int


def measure_costs(challenger: Path, champion: Path | None) -> Costs:
    """Measure the models in two bundles on this machine.

    Raises:
        IntegrityError: if a bundle is altered or incomplete, or its network cannot be run.
    """
    models = [challenger, *([champion] if champion else [])]
    latencies = in_turn([_answering(folder) for folder in models])
    size = (challenger / MODEL_FILE).stat().st_size
    return Costs(latencies[0], latencies[1] if champion else None, size)


def in_turn(
    answers: Sequence[Answer], rounds: int = _ROUNDS, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Give the median seconds of each answer; they take turns, so that what else the machine does falls on all."""
    for answer in answers:
        answer()
    taken: list[list[float]] = [[] for _ in answers]
    began = clock()
    while len(taken[0]) < rounds and (clock() - began < _SECONDS or len(taken[0]) < 3):
        for answer, times in zip(answers, taken, strict=True):
            started = clock()
            answer()
            times.append(clock() - started)
    return [float(np.median(times)) for times in taken]


def cost_rules(costs: Costs, settings: GateSettings) -> list[Rule]:
    """Give the rules on what a model may cost."""
    return [
        weigh(
            "latency",
            1000 * costs.latency,
            "<=",
            1000 * settings.max_latency,
            refusal="One image takes {figure}, more than {bound}.",
            note="one image on one thread of this machine, without decoding",
            unit="ms",
        ),
        *([_slowdown(costs, costs.champion_latency, settings)] if costs.champion_latency else []),
        weigh(
            "size",
            costs.size / 1e6,
            "<=",
            settings.max_size,
            refusal="The exported network is {figure}, more than {bound}.",
            unit="MB",
        ),
    ]


def _slowdown(costs: Costs, champion: float, settings: GateSettings) -> Rule:
    return weigh(
        "latency beside the champion's",
        costs.latency / champion,
        "<=",
        settings.max_slowdown,
        refusal="One image takes {figure} as long as the champion needs, more than {bound}; if that is meant, "
        "set gate.max_slowdown.",
        note=f"{1000 * costs.latency:.3g} and {1000 * champion:.3g} ms, in turn",
        unit="times",
    )


def _answering(folder: Path) -> Answer:
    """Load a bundle's network and give what answers its known image with it."""
    bundle, _ = read_any_bundle(folder)
    session = _session(folder / MODEL_FILE)
    known = preprocess((folder / KNOWN_IMAGE_FILE).read_bytes(), bundle.preprocessing)
    images = {session.get_inputs()[0].name: known[np.newaxis]}
    return lambda: session.run(None, images)


def _session(path: Path) -> "InferenceSession":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no other base in common
        raise IntegrityError(f"{path} is not a model that ONNX Runtime can load: {error}") from error
