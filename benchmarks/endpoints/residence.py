"""How the endpoint stands: time to readiness, memory, and whether health answers while it works."""

import time
from collections.abc import Iterator
from pathlib import Path

from endpoints.limit import Plan
from endpoints.load import asking, probing, quantile
from endpoints.report import Row, spread, told
from endpoints.server import Recipe, Server

HEALTH = "/v2/health/ready"
STEPS = 10


def residence(recipe: Recipe, plan: Plan) -> Iterator[Row]:
    """Time to readiness over several starts; then memory and health under load."""
    starts, quiet = [], 0.0
    for index in range(plan.rounds):
        with Server(recipe) as server:
            starts.append(server.seconds_to_ready)
            quiet = server.megabytes()
        told(f"start {index + 1} of {plan.rounds}: ready after {starts[-1]:.2f} s")
    median, least, most = spread(starts)
    yield {
        "figure": "s from the process's start to ready",
        "value": round(median, 2),
        "note": f"{least:.2f} to {most:.2f}",
    }
    yield {"figure": "MB at ready (PSS)", "value": round(quiet)}
    with Server(recipe) as server:
        requests = [recipe.request(path.read_bytes()) for path in plan.mixed]
        with asking(server.port, requests, plan.clients) as seen, probing(server.port, HEALTH) as health:
            time.sleep(plan.seconds * plan.rounds)
            loaded = server.megabytes()
        assert not seen.failures, "requests failed under load"
        told(f"{len(seen.finished)} requests and {len(health)} health checks answered")
    for name, share in (("p50", 0.5), ("p99", 0.99), ("maximum", 1.0)):
        text = f"ms until health answers, {name}, {plan.clients} clients"
        yield {"figure": text, "value": round(1000 * quantile(health, share), 1), "note": f"of {len(health)}"}
    yield {"figure": f"MB after {len(seen.finished)} requests", "value": round(loaded)}


def memory(recipe: Recipe, images: list[Path], requests: int, clients: int) -> Iterator[Row]:
    """Memory on the way to so many requests."""
    bodies = [recipe.request(path.read_bytes()) for path in images]
    with Server(recipe) as server:
        yield {"requests": 0, "MB": round(server.megabytes(), 1)}
        with asking(server.port, bodies, clients) as seen:
            for step in range(1, STEPS + 1):
                while len(seen.finished) < requests * step // STEPS:
                    assert server.alive(), "the endpoint ended"
                    time.sleep(0.05)
                found = {"requests": len(seen.finished), "MB": round(server.megabytes(), 1)}
                told(f"{found['requests']} requests, {found['MB']} MB")
                yield found
        assert not seen.failures, f"{len(seen.failures)} requests failed"
