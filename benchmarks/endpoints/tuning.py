"""Settings that depend on the machine: does batching pay, and how many threads are best?"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from endpoints.limit import Plan
from endpoints.load import measure
from endpoints.report import Row, spread, told
from endpoints.server import Server, endpoint

from components.bundle import MODEL_FILE

BATCHES = (1, 2, 4, 8)
REPEATS = 9


def batching(bundle: Path, size: int, cores: int) -> Iterator[Row]:
    """Processor time of an image in inference, by batch and threads; batches take turns.

    Where all cores are busy, and only there could requests be gathered, a batch pays if it takes less of it.
    """
    for threads in range(1, cores + 1):
        session = _session(bundle / MODEL_FILE, threads)
        name = session.get_inputs()[0].name
        inputs = {batch: np.zeros((batch, 3, size, size), np.float32) for batch in BATCHES}
        taken: dict[int, list[float]] = {batch: [] for batch in BATCHES}
        for repeat in range(REPEATS + 1):
            for batch in BATCHES:
                started = time.process_time()
                session.run(None, {name: inputs[batch]})
                if repeat:
                    taken[batch].append(1000 * (time.process_time() - started) / batch)
        told(f"{bundle.name}: batches with {threads} threads")
        medians = {batch: spread(values)[0] for batch, values in taken.items()}
        best = min(medians, key=lambda batch: medians[batch])
        row: Row = {
            "threads": threads,
            **{f"ms an image, batch of {batch}": round(medians[batch], 2) for batch in BATCHES},
        }
        yield {**row, "best batch gains": f"{medians[1] / medians[best] - 1:.1%}"}


def threads(bundle: Path, folder: Path, plan: Plan, cores: int) -> Iterator[Row]:
    """One client's median and the rate under load, by the endpoint's two settings of threads."""
    choices = [(threads, inner) for inner in range(1, cores + 1) for threads in range(1, 2 * cores + 1)]
    found: dict[tuple[int, int], tuple[list[float], list[float]]] = {choice: ([], []) for choice in choices}
    for index in range(plan.rounds):
        for choice, (medians, rates) in found.items():
            options = ("--threads", str(choice[0]), "--inference-threads", str(choice[1]))
            with Server(endpoint(bundle, folder, *options)) as server:
                requests = [server.recipe.request(path.read_bytes()) for path in plan.mixed]
                medians.append(1000 * measure(server.port, requests, 1, plan.seconds, server.cpu).quantile(0.5))
                rates.append(measure(server.port, requests, plan.clients, plan.seconds, server.cpu).rate)
            told(f"threads {choice[0]}, inference threads {choice[1]}, round {index + 1} of {plan.rounds}")
    for (outer, inner), (medians, rates) in found.items():
        yield {
            "threads": outer,
            "inference threads": inner,
            "p50 of one client, ms": round(spread(medians)[0], 1),
            f"answers a second, {plan.clients} clients": round(spread(rates)[0], 1),
        }


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
