"""Writes the endpoint's alert rules as the Prometheus operator takes them: python infra/kubernetes/alerts.py."""

from pathlib import Path

import yaml

INFRA = Path(__file__).parents[1]
RULES = INFRA / "alerts" / "endpoint.rules.yaml"
TARGET = INFRA / "kubernetes" / "components" / "monitoring" / "alerts.yaml"


def as_resource(rules: str) -> str:
    """Put the rules of a Prometheus file into a PrometheusRule."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "mscflow-endpoint", "namespace": "mscflow"},
        "spec": yaml.safe_load(rules),
    }
    heading = "# Made of infra/alerts/endpoint.rules.yaml by infra/kubernetes/alerts.py; change that file.\n"
    return heading + yaml.safe_dump(resource, sort_keys=False, width=120)


if __name__ == "__main__":
    TARGET.write_text(as_resource(RULES.read_text()))
