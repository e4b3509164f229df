import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from components.culture import Modality, Task
from components.registry import steps
from components.registry.pack.wording import wording
from components.settings import GateSettings, Settings
from tests.pages import Page

NAME = Modality.SINGLE_STACK.model_name
SECTIONS = (
    "intended-use",
    "acceptance-criteria",
    "data",
    "results",
    "confidence",
    "limits",
    "monitoring",
    "changes",
)


@pytest.fixture
def settings(home: Path, data: Any, sqlite_uri: str, tmp_path: Path) -> Settings:
    shutil.copytree(data.store, tmp_path / "store")  # whose audit log is this test's own
    return Settings(home=home, store=str(tmp_path / "store"), tracking_uri=sqlite_uri)


@pytest.fixture
def written(candidate: Path, settings: Settings, data: Any, tmp_path: Path) -> dict[str, str]:
    """The pack of a version that a person approved."""
    where = (settings.store_uri, settings.mlflow_uri, settings.home)
    steps.register(candidate, settings.mlflow_uri, settings.home, settings.store_uri)
    gate = GateSettings(policy="approval")
    waits = steps.promote(NAME, "1", where[0], data.first_split, where[1], gate, where[2])
    assert waits["awaits_approval"]
    steps.approve(NAME, "1", *where, reason="evidence read", by="operator-1")
    return steps.write_evidence_pack(NAME, "champion", settings, tmp_path / "packs")


def test_a_pack_holds_everything_under_its_headings(written: dict[str, str]) -> None:
    page, content = Page(Path(written["html"]).read_text()), json.loads(Path(written["json"]).read_bytes())
    assert tuple(page.ids) == SECTIONS
    assert all(link.startswith(("#", "data:")) for link in page.links)
    actions = [each["action"] for each in content["changes"]]
    assert actions == ["model.registered", "model.submitted", "model.judged", "model.approved"]
    assert content["changes"][-1]["actor"] == "operator-1"
    assert content["audit"]["sound"]
    assert content["bundle"]["files"]["model.onnx"]
    assert content["model"]["digest"] == hashlib.sha256(_bundle(content)).hexdigest()
    assert len(content["evidence"]["answers"]) == content["results"]["images"]
    assert (content["acceptance"]["fixed"]["entry"], content["acceptance"]["judged"]["entry"]) == (1, 2)
    assert content["acceptance"]["fixed"]["same_criteria"]
    assert content["data"]["groups"]
    assert written["sha256"] == hashlib.sha256(Path(written["json"]).read_bytes()).hexdigest()
    assert written["sha256"] in page.text
    assert "operator-1" in page.text
    assert "✓ Fixed first." in page.text


def _bundle(content: dict[str, Any]) -> bytes:
    """``bundle.json`` as it was written, from what the pack holds of it."""
    from components.bundle import Bundle

    return (Bundle.model_validate(content["bundle"]).model_dump_json(indent=2) + "\n").encode()


def test_a_pack_says_when_its_log_was_altered(written: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    (Path(settings.store_uri) / "audit" / "00000001.json").unlink()
    again = steps.write_evidence_pack(NAME, "1", settings, tmp_path / "again")
    page = Page(Path(again["html"]).read_text())
    assert "entry 1 was removed" in page.text
    assert "Not shown." in page.text  # that the criteria came first rested on that entry


def test_a_version_that_nobody_judged_has_a_pack_that_says_so(
    candidate: Path, settings: Settings, tmp_path: Path
) -> None:
    steps.register(candidate, settings.mlflow_uri, settings.home, settings.store_uri)
    written = steps.write_evidence_pack(NAME, "1", settings, tmp_path / "packs")
    assert "the gate has not judged this version" in Page(Path(written["html"]).read_text()).text


@pytest.mark.parametrize("task", list(Task))
def test_every_task_has_its_words(task: Task) -> None:
    said = wording(task, Modality.SINGLE_STACK)
    assert "single-stack" in said.inputs
    assert len(set(said.limits)) == len(said.limits) > 3
