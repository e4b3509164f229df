import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components import tracking
from components.bundle import read_bundle
from components.culture import Modality
from components.errors import InputError
from components.registry import steps
from components.registry.verdicts import Override
from components.settings import GateSettings

BundleOf = Callable[..., Path]

PERFECT = (1, 1, 2, 2, 3, 3, 4, 4)
GOOD = (1, 1, 2, 2, 3, 3, 4, 3)
GATE = GateSettings()
NAME = Modality.SINGLE_STACK.model_name


def test_a_candidate_goes_from_its_evaluation_to_a_report(
    candidate: Path, sqlite_uri: str, data: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bundle, digest = read_bundle(candidate)
    run = tracking.start_parent(sqlite_uri, "mscflow", "pipeline", {})
    monkeypatch.setenv(tracking.RUN_ID_VARIABLE, run)
    registered = steps.register(candidate, sqlite_uri)
    assert registered == {
        "name": NAME,
        "version": "1",
        "digest": digest,
        "aliases": ["challenger"],
        "created": True,
    }
    promoted = steps.promote(NAME, "1", str(data.store), data.first_split, sqlite_uri, GATE, home)
    assert json.loads(json.dumps(promoted)) == promoted
    assert (promoted["passed"], promoted["champion"], promoted["previous"]) == (True, "1", None)
    assert {rule["name"]: rule["figure"] for rule in promoted["rules"]}["accuracy"] == bundle.metrics["accuracy"]
    kept = tracking.client(sqlite_uri).get_run(run).data
    assert kept.metrics["test/accuracy"] == bundle.metrics["accuracy"]
    assert kept.tags["data_version"] == data.first
    page = tmp_path / "report.html"
    steps.write_version_report(NAME, "champion", sqlite_uri, home, page)
    html = page.read_text()
    assert digest[:12] in html
    assert "Passed the gate" in html


def test_the_report_tells_of_overrides_and_rollbacks(
    candidate: Path, bundle_of: BundleOf, sqlite_uri: str, data: Any, home: Path, tmp_path: Path
):
    where = (str(data.store), data.first_split, sqlite_uri, GATE, home)
    steps.register(bundle_of(PERFECT, name=NAME), sqlite_uri)
    steps.promote(NAME, "1", *where)
    steps.register(candidate, sqlite_uri)
    steps.promote(NAME, "2", *where, override=Override("the camera is new", by="Ada"))
    steps.rollback(NAME, sqlite_uri, home, "the camera is old", by="Eve")
    page = tmp_path / "report.html"
    steps.write_version_report(NAME, "2", sqlite_uri, home, page)
    html = page.read_text()
    assert "Refused by the gate" in html
    assert "Promoted past the gate by Ada: the camera is new" in html
    assert re.search("Rolled back to version 1 at .* by Eve: the camera is old", html)


def test_a_version_is_shown_with_its_verdict(
    bundle_of: BundleOf, model_name: str, sqlite_uri: str, data: Any, home: Path
):
    steps.register(bundle_of(GOOD, split_id=data.first_split), sqlite_uri)
    assert steps.show(model_name, "challenger", sqlite_uri)["verdict"] is None
    steps.promote(model_name, "1", str(data.store), None, sqlite_uri, GateSettings(min_accuracy=1), home)
    shown = steps.show(model_name, "1", sqlite_uri)
    assert (shown["gate"], shown["accuracy"], shown["aliases"]) == ("refused", 7 / 8, ["challenger"])
    assert shown["verdict"]["passed"] is False
    assert shown["verdict"]["split_id"] == data.first_split  # that of the version, as none was given
    json.dumps(shown)


def test_by_hand_back_and_forth(bundle_of: BundleOf, model_name: str, sqlite_uri: str, data: Any, home: Path):
    where = (str(data.store), data.first_split, sqlite_uri, GATE, home)
    for answers in (PERFECT, GOOD):
        steps.register(bundle_of(answers), sqlite_uri)
    steps.promote(model_name, "1", *where)
    assert steps.promote(model_name, "2", *where)["passed"] is False
    forced = steps.promote(model_name, "2", *where, override=Override("trained on the new camera", by="Ada"))
    assert (forced["passed"], forced["forced"], forced["previous"]) == (True, True, "1")
    back = steps.rollback(model_name, sqlite_uri, home, "worse after all")
    assert (back["version"], back["aliases"]) == ("1", ["champion"])
    listed = {row.version: (row.aliases, row.gate) for row in steps.list_versions(sqlite_uri, model_name)}
    assert listed == {"1": (("champion",), "passed"), "2": ((), "forced")}
    assert steps.withdraw(model_name, "1", sqlite_uri, home, "broken") is None


def test_promoting_what_is_not_there_is_bad_input(sqlite_uri: str, data: Any, home: Path):
    with pytest.raises(InputError, match="holds no model 'confluence-x'"):
        steps.promote("confluence-x", "1", str(data.store), None, sqlite_uri, GATE, home)
