"""The alert rules and the dashboard's expressions, in a real Prometheus that scrapes a real endpoint."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.infra.expressions import RULES, of_dashboard, of_rules
from tests.servers import Server, free_ports

pytestmark = pytest.mark.cluster

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: mscflow
    static_configs: [{{targets: ["{endpoint}"]}}]
"""


class Prometheus(Server):
    """Prometheus, which scrapes one endpoint every second and evaluates the rules."""

    def __init__(self, folder: Path, program: str, endpoint: str) -> None:
        super().__init__(folder)
        self._program = program
        (port,) = free_ports(1)
        self._address = f"127.0.0.1:{port}"
        self.http = httpx.Client(base_url=f"http://{self._address}/api/v1", timeout=30, trust_env=False)
        # A group of its own interval would be evaluated once a minute.
        rules = RULES.read_text().replace("interval: 1m", "interval: 1s")
        (folder / "rules.yaml").write_text(rules)
        (folder / "prometheus.yaml").write_text(CONFIG.format(rules=folder / "rules.yaml", endpoint=endpoint))

    def command(self) -> list[str]:
        options = [f"--config.file={self.folder}/prometheus.yaml", f"--storage.tsdb.path={self.folder}/data"]
        return [self._program, *options, f"--web.listen-address={self._address}"]

    def answers(self) -> bool:
        try:
            return self.http.get(f"http://{self._address}/-/ready").is_success
        except httpx.TransportError:
            return False

    def ask(self, expression: str) -> list[dict[str, Any]]:
        answer = self.http.get("/query", params={"query": expression})
        assert answer.is_success, answer.text
        return list(answer.json()["data"]["result"])


@pytest.fixture(scope="module")
def prometheus(
    program: Callable[[str], str], busy: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), program("prometheus"), busy.url.removeprefix("http://"))
    server.start()
    yield server
    server.stop()
    server.http.close()


def wait_for(busy: Any, found: Callable[[], Any]) -> Any:
    """Ask the endpoint until Prometheus tells what is waited for."""
    deadline = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < deadline
        busy.ask()
        time.sleep(0.5)
    return value


def test_prometheus_finds_the_endpoint_s_text_well_formed(program: Callable[[str], str], busy: Any) -> None:
    text = busy.http.get("/metrics").content
    done = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).decode().splitlines() if "mscflow" in line]
    assert (done.returncode in (0, 3), ours) == (True, []), done  # 3: a matter of style, in somebody else's


def test_every_alert_fires_when_it_should_and_only_then(program: Callable[[str], str]) -> None:
    for command in (["check", "rules", RULES], ["test", "rules", RULES.with_name("endpoint.tests.yaml")]):
        done = subprocess.run([program("promtool"), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test() -> None:
    tested = RULES.with_name("endpoint.tests.yaml").read_text()
    assert [
        rule["alert"] for rule in of_rules() if "alert" in rule and f"{rule['alert']}\n        exp_" not in tested
    ] == []


@pytest.mark.parametrize("expression", of_dashboard())
def test_every_panel_shows_something(expression: str, prometheus: Prometheus, busy: Any) -> None:
    # The swap of the only version lies before the first scrape, so that nothing changed since.
    if "changes(" in expression:
        assert prometheus.ask(expression) == []
        return
    wait_for(busy, lambda: [item for item in prometheus.ask(expression) if item["value"][1] != "NaN"])


def test_rules_are_evaluated_and_the_rejected_version_is_told(prometheus: Prometheus, busy: Any) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.http.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    wait_for(busy, lambda: all(rule["health"] == "ok" for rule in rules()))
    pending = wait_for(busy, lambda: {rule["name"] for rule in rules() if rule.get("state") in ("pending", "firing")})
    assert "MscflowRolloutFailed" in pending
    assert not {"MscflowEndpointGone", "MscflowEndpointNotReady", "MscflowRequestsFail"} & pending
    assert wait_for(busy, lambda: prometheus.ask("mscflow:abstain_share:1h"))
