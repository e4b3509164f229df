"""What does the endpoint do when more is asked of it than it can answer?

python benchmarks/overload.py                        a minute at ten times its capacity, and a curve up to there
python benchmarks/overload.py --seconds 20 --json    a shorter one, its figures for machines
python benchmarks/overload.py --curve CURVE.png      the curve and the memory over time as a picture

Capacity is what 16 clients get that each wait for their answer. Overload comes at random moments and waits for
nothing (a Poisson process). All of it is one run against one process; the clients share the cores with it. Exits with
1 where the accepted requests' p99 is above three times that at capacity, a request is lost, health takes more than
50 ms (p99), memory grows, or capacity does not come back.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from endpoints.load import Window, measure, probing, quantile
from endpoints.models import SIDE, draw_images, make_bundle
from endpoints.report import told
from endpoints.server import Server, endpoint
from endpoints.storm import Storm, storm

CLIENTS = 16
TIMES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
OVERLOAD = 10.0
P99_TIMES, HEALTH_MS, MEMORY_MB, RECOVERED = 3.0, 50.0, 30.0, 0.85
SAMPLE_SECONDS = 0.25

Row = dict[str, Any]


class Trial:
    """One server and what is asked of it."""

    def __init__(self, server: Server, requests: list[bytes], seconds: float) -> None:
        self.server, self.requests, self.seconds = server, requests, seconds
        self.began = time.perf_counter()
        self.memory: list[tuple[float, float]] = []

    def capacity(self) -> Window:
        return measure(self.server.port, self.requests, CLIENTS, self.seconds, self.server.cpu)

    def at(self, rate: float, seconds: float) -> tuple[Storm, list[float]]:
        with probing(self.server.port, "/v2/health/live") as health:
            found = storm(self.server.port, self.requests, rate, seconds)
        return found, health

    @contextmanager
    def watching_memory(self) -> Iterator[None]:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(SAMPLE_SECONDS):
                self.memory.append((time.perf_counter() - self.began, self.server.megabytes()))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def row_of(times: float, found: Storm, health: list[float]) -> Row:
    answered = len(found.accepted) + len(found.refused)
    return {
        "times": times,
        "offered_per_s": round((answered + sum(found.others.values())) / found.seconds, 1),
        "accepted_per_s": round(len(found.accepted) / found.seconds, 1),
        "refused_per_s": round(len(found.refused) / found.seconds, 1),
        "p50_ms": round(1000 * quantile(found.accepted, 0.5), 1),
        "p99_ms": round(1000 * quantile(found.accepted, 0.99), 1),
        "refusal_p99_ms": round(1000 * quantile(found.refused, 0.99), 1) if found.refused else None,
        "health_p99_ms": round(1000 * quantile(health, 0.99), 1),
        "health_max_ms": round(1000 * max(health), 1),
        "others": found.others,
        "generator_late_p99_ms": round(1000 * found.late, 1),
    }


def run(trial: Trial, overload_seconds: float) -> Row:
    trial.capacity()  # warms everything up
    before = trial.capacity()
    p50, p99 = (1000 * before.quantile(share) for share in (0.5, 0.99))
    told(f"capacity {before.rate:.1f}/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms")
    curve = []
    with trial.watching_memory():
        for times in TIMES:
            curve.append(row_of(times, *trial.at(times * before.rate, trial.seconds)))
            told(str(curve[-1]))
        started = time.perf_counter() - trial.began
        curve.append(row_of(OVERLOAD, *trial.at(OVERLOAD * before.rate, overload_seconds)))
        told(str(curve[-1]))
        ended = time.perf_counter() - trial.began
        sent = time.perf_counter()
        status, _ = trial.server.ask(trial.requests[0])
        first = time.perf_counter() - sent
        after = trial.capacity()
    return {
        "capacity_per_s": round(before.rate, 1),
        "capacity_p50_ms": round(p50, 1),
        "capacity_p99_ms": round(p99, 1),
        "curve": curve,
        "p99_times": round(curve[-1]["p99_ms"] / p99, 2),
        "recovery": {
            "first_status": status,
            "first_ms": round(1000 * first, 1),
            "capacity_per_s": round(after.rate, 1),
            "p99_ms": round(1000 * after.quantile(0.99), 1),
            "refused": after.failures,
        },
        "overload_from_s": round(started, 1),
        "overload_to_s": round(ended, 1),
        "memory_mb": [(round(at, 2), round(size, 1)) for at, size in trial.memory],
    }


def verdicts(found: Row) -> dict[str, bool]:
    worst, recovery = found["curve"][-1], found["recovery"]
    begun, ended = found["overload_from_s"], found["overload_to_s"]
    third = begun + (ended - begun) / 3
    early = [size for at, size in found["memory_mb"] if begun <= at < third]
    late = [size for at, size in found["memory_mb"] if third <= at < ended]
    return {
        f"p99 of accepted requests is within {P99_TIMES:g} times that at capacity": found["p99_times"] <= P99_TIMES,
        "every request is answered with 200 or 503": not any(row["others"] for row in found["curve"]),
        f"health answers within {HEALTH_MS:g} ms (p99)": worst["health_p99_ms"] <= HEALTH_MS,
        "memory stays": max(late) <= max(early) + MEMORY_MB,
        "it recovers at once": recovery["first_status"] == 200
        and not recovery["refused"]
        and recovery["capacity_per_s"] >= RECOVERED * found["capacity_per_s"],
    }


def draw(found: Row, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    (rates, latencies), (memory, health) = figure.subplots(2, 2)
    curve = found["curve"]
    times = [row["times"] for row in curve]
    for name, label in (("accepted_per_s", "accepted"), ("refused_per_s", "refused")):
        rates.plot(times, [row[name] for row in curve], "o-", label=label)
    rates.axhline(found["capacity_per_s"], color="grey", linestyle=":", label="capacity, 16 clients")
    rates.set(ylabel="requests a second")
    for name, label in (("p50_ms", "p50"), ("p99_ms", "p99")):
        latencies.plot(times, [row[name] for row in curve], "o-", label=label)
    latencies.axhline(found["capacity_p99_ms"], color="grey", linestyle=":", label="p99 at capacity")
    latencies.axhline(P99_TIMES * found["capacity_p99_ms"], color="tab:red", linestyle=":", label="3 times that")
    latencies.set(ylabel="ms to an accepted answer", ylim=(0, None))
    health.plot(times, [row["health_p99_ms"] for row in curve], "o-", label="p99")
    health.plot(times, [row["health_max_ms"] for row in curve], "o-", label="maximum")
    health.axhline(HEALTH_MS, color="tab:red", linestyle=":", label=f"{HEALTH_MS:g} ms")
    health.set(ylabel="ms until health answers", ylim=(0, None))
    for axes in (rates, latencies, health):
        axes.set(xlabel="offered load, in capacities", xscale="log", xticks=times)
        axes.set_xticks(times, [f"{each:g}" for each in times], minor=False)
        axes.set_xticks([], minor=True)
        axes.legend(frameon=False)
    memory.plot(*zip(*found["memory_mb"], strict=True))
    span = (found["overload_from_s"], found["overload_to_s"])
    memory.axvspan(*span, color="tab:red", alpha=0.12, label=f"{OVERLOAD:g} times the capacity")
    memory.set(xlabel="seconds", ylabel="MB (PSS)", ylim=(0, None))
    memory.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenet_v3")
    parser.add_argument("--size", type=int, default=300, help="side of the network's input, pixels")
    parser.add_argument("--side", type=int, default=SIDE, help="side of the images, pixels")
    parser.add_argument("--seconds", type=float, default=60.0, help="of overload")
    parser.add_argument("--step", type=float, default=5.0, help="seconds of every other measurement")
    parser.add_argument("--cache", type=Path, default=Path(".mscflow/benchmark"), help="models and images")
    parser.add_argument("--curve", type=Path, help="PNG file to draw")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--set", nargs=argparse.REMAINDER, default=[], help="options of the endpoint, the last of all")
    options = parser.parse_args()
    cache = options.cache.absolute()
    images = [path for group in draw_images(cache / "images", options.side).values() for path in group]
    bundle = make_bundle(cache / "models", options.backbone, options.size)
    with tempfile.TemporaryDirectory(prefix="mscflow-benchmark-") as scratch:
        recipe = endpoint(bundle, Path(scratch) / "endpoint", *options.set)
        with Server(recipe) as server:
            requests = [recipe.request(path.read_bytes()) for path in images]
            found = run(Trial(server, requests, options.step), options.seconds)
    found["verdicts"] = verdicts(found)
    if options.curve:
        draw(found, options.curve)
    if options.json:
        print(json.dumps(found))
    else:
        for name, held in found["verdicts"].items():
            print(f"{'yes' if held else 'NO ':3}  {name}")
    sys.exit(0 if all(found["verdicts"].values()) else 1)


if __name__ == "__main__":
    main()
