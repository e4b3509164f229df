"""The bare limit: decoding, preprocessing and ONNX Runtime in a loop, with nothing around it.

Run as a process of its own, it reads one line of JSON a measurement, ``{"images", "threads", "seconds"}``, and
answers with the seconds of each image and its own processor time.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from endpoints.load import Window
from endpoints.rivals.predictor import Predictor
from endpoints.server import SAME_ALLOCATOR

WARM_UP_SECONDS = 0.3
FOLDER = Path(__file__).parents[1]


class Bare:
    """Processes that wait for their measurements.

    Args:
        bundle: The model.
        processes: How many work side by side.
        threads: Of each, side by side too.
        inference_threads: Of one inference.
    """

    def __init__(self, bundle: Path, processes: int, threads: int, inference_threads: int = 1) -> None:
        self.name = f"{processes} processes of {threads} threads"
        self._threads = threads
        command = [sys.executable, "-m", "endpoints.bare", str(bundle), str(inference_threads)]
        environment = {**os.environ, **SAME_ALLOCATOR}
        self._stack = ExitStack()
        self._processes = []
        for _ in range(processes):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=FOLDER, env=environment
            )
            self._stack.callback(_end, process)
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, images: list[Path], seconds: float) -> Window:
        """Work on the images in turn for so long."""
        task = json.dumps({"images": [str(each) for each in images], "threads": self._threads, "seconds": seconds})
        for process in self._processes:
            print(task, file=process.stdin, flush=True)
        found = [json.loads(process.stdout.readline()) for process in self._processes]
        latencies = [each for part in found for each in part["latencies"]]
        return Window(seconds, latencies, 0, sum(part["cpu"] for part in found), 0.0)


def _end(process: "subprocess.Popen[str]") -> None:
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def work(predictor: Predictor, images: list[bytes], threads: int, seconds: float) -> dict[str, Any]:
    """Work on the images in turn, and watch a window after a short warm-up."""
    finished: list[tuple[float, float]] = []
    done, turns = threading.Event(), itertools.count()

    def loop() -> None:
        while not done.is_set():
            started = time.perf_counter()
            predictor.logits(images[next(turns) % len(images)])
            now = time.perf_counter()
            finished.append((now, now - started))

    running = [threading.Thread(target=loop) for _ in range(threads)]
    for each in running:
        each.start()
    time.sleep(min(WARM_UP_SECONDS, seconds))
    began, cpu = time.perf_counter(), time.process_time()
    time.sleep(seconds)
    ended, cpu = time.perf_counter(), time.process_time() - cpu
    done.set()
    for each in running:
        each.join()
    return {"latencies": [taken for at, taken in finished if began <= at < ended], "cpu": cpu}


def main() -> None:
    predictor = Predictor(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        task = json.loads(line)
        images = [Path(each).read_bytes() for each in task["images"]]
        print(json.dumps(work(predictor, images, task["threads"], task["seconds"])), flush=True)


if __name__ == "__main__":
    main()
