"""The Grafana dashboard asks for figures that a running endpoint gives."""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.infra.expressions import DASHBOARD, of_dashboard, of_rules, series

PAGE = Path(__file__).parents[2] / "docs" / "serving" / "observability.md"
# Given by Prometheus, and not by the endpoint.
TARGET = {"job", "instance", "le"}


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


@pytest.fixture(scope="module")
def exposed(busy: Any) -> dict[str, set[str]]:
    """Labels of each figure, by its name."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(busy.http.get("/metrics").text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("expression", [*of_dashboard(), *(rule["expr"] for rule in of_rules())])
def test_every_figure_that_is_asked_for_is_one_that_the_endpoint_gives(
    expression: str, exposed: dict[str, set[str]]
) -> None:
    named = list(series(expression))
    assert named or "mscflow:" in expression
    assert {name for name, _ in named} <= set(exposed)
    # A binary expression sums its sides by the same labels, so that each must be one that some of them has.
    asked = {label for _, labels in named for label in labels}
    assert asked <= TARGET.union(*(exposed[name] for name, _ in named))


def test_what_the_endpoint_counts_is_shown_or_watched(exposed: dict[str, set[str]]) -> None:
    shown = {name for text in [*of_dashboard(), *(rule["expr"] for rule in of_rules())] for name, _ in series(text)}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in exposed if name.startswith("mscflow_")}
    # Whether a model is ready is seen in its version, which is missing where it is not.
    assert families - {re.sub("_(bucket|count|sum)$", "", name) for name in shown} == {"mscflow_model_ready"}


def test_the_page_lists_exactly_what_the_endpoint_counts(exposed: dict[str, set[str]]) -> None:
    listed: dict[str, set[str]] = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `mscflow_"):
            _, names, labels, *_ = line.split("|")
            words = re.sub(r"\(.*\)", "", labels).replace(",", " ").split()
            listed |= {name: set(words) for name in re.findall(r"`(\w+)`", names)}
    given: dict[str, set[str]] = {}
    for name, labels in exposed.items():
        if name.startswith("mscflow_"):
            given.setdefault(re.sub("_(bucket|count|sum)$", "", name), set()).update(labels - {"le"})
    assert listed == given


def test_panels_have_names_and_places_of_their_own(board: dict[str, Any]) -> None:
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == len({panel["title"] for panel in panels})
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)


def test_variables_are_all_defined(board: dict[str, Any]) -> None:
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))
    defined = {variable["name"] for variable in board["templating"]["list"]}
    assert used - {"__rate_interval"} == defined
