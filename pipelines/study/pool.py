"""Worker processes that make folds, several at a time; they end with the study, however it ends."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from components.errors import MscflowError, TrainingError
from pipelines.study.job import Job

Event = dict[str, Any]
# Seconds between looks at the clock while no event comes, and those that a worker gets to end.
_TICK, _PATIENCE = 0.5, 5.0


class Failed(MscflowError):
    """A fold failed in a way that others would too; the message and the exit code are the worker's."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Pool:
    """A few workers, each at one fold at a time.

    Args:
        processes: How many.
        devices: GPUs, by the names that CUDA knows them under, that the workers share; none for processors.
        log: File that gets what the workers' libraries print.
    """

    def __init__(self, processes: int, devices: Sequence[str], log: Path) -> None:
        self.processes, self.devices, self.log = processes, devices, log
        self._events: queue.SimpleQueue[tuple[_Worker, Event | None]] = queue.SimpleQueue()

    def run(self, jobs: Sequence[Job], observe: Callable[[Event], None], tick: Callable[[], None]) -> dict[str, str]:
        """Make folds.

        Args:
            jobs: Begun in this order.
            observe: Told of each event, with the fold's ``key``.
            tick: Called about twice a second.

        Returns:
            Why folds have no result although others can have one, by key.

        Raises:
            Failed: if a fold failed by its input, which the others share, or its process died.
        """
        waiting, failures = list(reversed(jobs)), dict[str, str]()
        with self._workers(min(self.processes, len(jobs))) as workers:
            for worker in workers:
                worker.begin(waiting.pop())
            while any(worker.job for worker in workers):
                try:
                    worker, event = self._events.get(timeout=_TICK)
                except queue.Empty:
                    tick()
                    continue
                if event is None:
                    raise self._died(worker)
                if event["event"] == "failed":
                    failures |= self._failure(worker, event)
                observe(event)
                tick()
                if event["event"] in ("done", "failed"):
                    worker.job = None
                    if waiting:
                        worker.begin(waiting.pop())
        return failures

    @contextmanager
    def _workers(self, count: int) -> "Iterator[list[_Worker]]":
        workers: list[_Worker] = []
        with self.log.open("a", encoding="utf-8") as log:
            try:
                # One by one, so that those that have begun are ended if the next one cannot.
                workers.extend(
                    _Worker(number, self._environment(number, count), log, self._events) for number in range(count)
                )
                yield workers
            finally:
                for worker in workers:
                    worker.process.terminate()
                for worker in workers:
                    worker.end()

    def _environment(self, number: int, count: int) -> dict[str, str]:
        # One thread each: as fast as one fold on all cores, or faster, and the same however many run at once.
        changes = {"OMP_NUM_THREADS": "1"}
        if self.devices:
            changes = {
                "CUDA_VISIBLE_DEVICES": self.devices[number % len(self.devices)],
                "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
            }
        return {**os.environ, **changes}

    def _failure(self, worker: "_Worker", event: Event) -> dict[str, str]:
        if event["error"] != TrainingError.__name__:
            raise Failed(f"{worker.name}: {event['message']}", event["exit_code"])
        return {event["key"]: event["message"]}

    def _died(self, worker: "_Worker") -> Failed:
        code = worker.process.wait()
        why = f"was killed by signal {-code} (out of memory?)" if code < 0 else f"ended with exit code {code}"
        return Failed(
            f"the process that made {worker.name} {why}; what it finished is kept: give the same command again, with "
            f"fewer --processes if memory ran out; log: {self.log}",
            1,
        )


class _Worker:
    """One process, and the fold that it is at."""

    def __init__(
        self,
        number: int,
        environment: dict[str, str],
        log: IO[str],
        events: "queue.SimpleQueue[tuple[_Worker, Event | None]]",
    ) -> None:
        self.number = number
        self.job: Job | None = None
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-m", "pipelines.study.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
        )
        self._input, self._output = cast(IO[bytes], self.process.stdin), cast(IO[bytes], self.process.stdout)
        self._reader = threading.Thread(target=self._read, args=(events,), daemon=True)
        self._reader.start()

    @property
    def name(self) -> str:
        """The fold that it is at, for people."""
        return f"{self.job.unit.cell.name}, fold {self.job.unit.fold.name}" if self.job else f"worker {self.number}"

    def begin(self, job: Job) -> None:
        """Give it a fold; a process that died meanwhile tells so by its output."""
        self.job = job
        try:
            self._input.write(msgspec.json.encode(job) + b"\n")
            self._input.flush()
        except BrokenPipeError:
            return

    def end(self) -> None:
        """See to it that it has ended."""
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self._output.close()
        with suppress(BrokenPipeError):  # what a process that is gone has never read
            self._input.close()

    def _read(self, events: "queue.SimpleQueue[tuple[_Worker, Event | None]]") -> None:
        for line in self._output:
            events.put((self, json.loads(line)))
        events.put((self, None))
