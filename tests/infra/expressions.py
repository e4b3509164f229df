"""The expressions of the dashboard and of the alert rules, and what they name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

INFRA = Path(__file__).parents[2] / "infra"
DASHBOARD = INFRA / "dashboards" / "endpoint.json"
RULES = INFRA / "alerts" / "endpoint.rules.yaml"
FILLED = {"$__rate_interval": "1m", "$job": ".*", "$model": ".*"}


def of_dashboard() -> list[str]:
    """Give every expression of the dashboard, its variables filled in."""
    board = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    found += [item["expr"] for item in board["annotations"]["list"] if "expr" in item]
    for name, value in FILLED.items():
        found = [text.replace(name, value) for text in found]
    return found


def of_rules() -> list[dict[str, str]]:
    """Give every rule."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def series(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Give each metric that an expression names, and the labels by which it picks or sums it."""
    labels = {label for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in group.split(", ")}
    for name, matchers in re.findall(r"(?<![\w:$])((?:mscflow|process)_\w+)(\{[^}]*\})?", expression):
        yield name, {label for label in (*labels, *re.findall(r"(\w+)(?==|!)", matchers)) if label}
