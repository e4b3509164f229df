"""The endpoint against other servers that serve the same model with the same decoding and preprocessing."""

from collections.abc import Iterator
from contextlib import ExitStack

from endpoints.limit import Plan
from endpoints.load import Window, measure
from endpoints.report import Row, spread, told
from endpoints.server import Recipe, Server


def contest(recipes: list[Recipe], plan: Plan) -> Iterator[Row]:
    """Measure the servers in turn, round by round, each while the others are paused.

    The first recipe is the one that the others are compared with.
    """
    with ExitStack() as stack:
        servers = []
        for recipe in recipes:
            told(f"starting {recipe.name}")
            servers.append(stack.enter_context(Server(recipe)))
        found: list[list[Window]] = [[] for _ in servers]
        for index in range(plan.rounds):
            for server, windows in zip(servers, found, strict=True):
                windows.append(_alone(server, servers, plan))
                told(f"{server.recipe.name}: round {index + 1} of {plan.rounds}, {windows[-1].rate:.1f}/s")
    for recipe, windows in zip(recipes, found, strict=True):
        yield _row(recipe, windows, found[0])


def _alone(server: Server, servers: list[Server], plan: Plan) -> Window:
    requests = [server.recipe.request(path.read_bytes()) for path in plan.mixed]
    with ExitStack() as stack:
        for each in servers:
            if each is not server:
                stack.enter_context(each.paused())
        window = measure(server.port, requests, plan.clients, plan.seconds, server.cpu)
    assert not window.failures, f"{window.failures} requests of {server.recipe.name} failed"
    return window


def _row(recipe: Recipe, windows: list[Window], ours: list[Window]) -> Row:
    rate, slowest, fastest = spread([each.rate for each in windows])
    p99, least, most = spread([1000 * each.quantile(0.99) for each in windows])
    return {
        "server": recipe.name,
        "answers/s": f"{rate:.1f} ({slowest:.1f} to {fastest:.1f})",
        "p99, ms": f"{p99:.0f} ({least:.0f} to {most:.0f})",
        "rate, endpoint : it": round(spread([a.rate / b.rate for a, b in zip(ours, windows, strict=True)])[0], 2),
        "p99, it : endpoint": round(
            spread([b.quantile(0.99) / a.quantile(0.99) for a, b in zip(ours, windows, strict=True)])[0], 2
        ),
        "processor ms an answer": round(1000 / spread([each.rate_of_cpu for each in windows])[0], 1),
        "settings": recipe.settings,
    }
