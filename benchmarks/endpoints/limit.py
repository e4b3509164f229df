"""The endpoint against the bare limit: how much is added to decoding, preprocessing and inference."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from endpoints.bare import Bare
from endpoints.load import Window, measure
from endpoints.report import Row, spread, told
from endpoints.server import Recipe, Server


@dataclass(frozen=True)
class Plan:
    """How long is measured.

    Attributes:
        images: Files by format.
        rounds: Measurements of each, in turn with what they are compared with.
        seconds: Of one measurement.
        clients: In the measurements under load.
    """

    images: dict[str, list[Path]]
    rounds: int
    seconds: float
    clients: int

    @property
    def mixed(self) -> list[Path]:
        """Files of all formats, in turn."""
        return [path for group in zip(*self.images.values(), strict=True) for path in group]


def against_bare(recipe: Recipe, bundle: Path, plan: Plan, cores: int) -> Iterator[Row]:
    """One client's median, by format, and the rate under load, each beside the bare loop.

    The bare loop of one client has one thread. Under load there are two, one with a thread a core and one with a
    process a core, and the endpoint is held against whichever is faster.
    """
    with Server(recipe) as server, Bare(bundle, 1, 1) as single, Bare(bundle, 1, cores) as threads:
        for form, images in plan.images.items():
            pairs = []
            for index in range(plan.rounds):
                bare = single.measure(images, plan.seconds)
                pairs.append((bare, _ask(server, images, 1, plan.seconds)))
                told(f"{bundle.name}: one client, {form}, round {index + 1} of {plan.rounds}")
            yield _median_row(form, pairs)
        with Bare(bundle, cores, 1) as processes:
            rounds = []
            for index in range(plan.rounds):
                loops = [each.measure(plan.mixed, plan.seconds) for each in (threads, processes)]
                rounds.append((*loops, _ask(server, plan.mixed, plan.clients, plan.seconds)))
                told(f"{bundle.name}: {plan.clients} clients, round {index + 1} of {plan.rounds}")
        yield from _rate_rows(rounds, plan.clients, (threads.name, processes.name))


def _ask(server: Server, images: list[Path], clients: int, seconds: float) -> Window:
    requests = [server.recipe.request(path.read_bytes()) for path in images]
    window = measure(server.port, requests, clients, seconds, server.cpu)
    assert not window.failures, f"{window.failures} requests of {server.recipe.name} failed"
    return window


def _median_row(form: str, pairs: list[tuple[Window, Window]]) -> Row:
    milliseconds = [(1000 * bare.quantile(0.5), 1000 * mine.quantile(0.5)) for bare, mine in pairs]
    return _row(f"p50 of one client, {form}, ms", milliseconds)


def _rate_rows(rounds: list[tuple[Window, Window, Window]], clients: int, names: tuple[str, str]) -> Iterator[Row]:
    best = max((0, 1), key=lambda index: sorted(each[index].rate for each in rounds)[len(rounds) // 2])
    pairs = [(each[best], each[2]) for each in rounds]
    yield _row(f"answers a second, {clients} clients", [(bare.rate, mine.rate) for bare, mine in pairs], names[best])
    share = spread([mine.client_cpu / (mine.client_cpu + mine.server_cpu) for _, mine in pairs])[0]
    yield _row(
        "answers a processor second of their own",
        [(bare.rate_of_cpu, mine.rate_of_cpu) for bare, mine in pairs],
        f"the clients' share of all processor time is {share:.1%}",
    )


def _row(figure: str, pairs: list[tuple[float, float]], note: str = "") -> Row:
    ratio, least, most = spread([mine / bare for bare, mine in pairs])
    values: dict[str, Any] = {
        "figure": figure,
        "bare": round(spread([bare for bare, _ in pairs])[0], 2),
        "endpoint": round(spread([mine for _, mine in pairs])[0], 2),
        "ratio": round(ratio, 3),
        "from": round(least, 3),
        "to": round(most, 3),
    }
    return {**values, "note": note}
