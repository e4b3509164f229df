"""`mscflow models audit, approve, rollback` as a user meets them, on a registry that was filled beforehand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.audit.log import AuditLog
from components.registry.crown import crown
from components.registry.versions import Registry
from components.settings import sqlite_uri
from components.storage import open_store

MODEL = "confluence-single-stack"


@pytest.fixture
def laboratory(tmp_path: Path, make_bundle: Callable[..., str]) -> Path:
    """A folder whose home has two champions, one after the other."""
    home = tmp_path / ".mscflow"
    home.mkdir()
    registry = Registry(sqlite_uri(home / "mlflow.db"), home, AuditLog(open_store(home / "store")))
    for favour in (1, 2):
        make_bundle(tmp_path / "trained", favour=favour)
        version = registry.register(tmp_path / "trained").version
        crown(registry, version, registry.champion(MODEL), "model.promoted", actor="operator-1", reason="better")
    return tmp_path


@pytest.mark.slow
def test_the_log_is_printed_verified_and_added_to(laboratory: Path, mscflow: Any) -> None:
    shown = mscflow("models", "audit", cwd=laboratory)
    assert shown.code == 0, shown.err
    assert "model.promoted" in shown.out
    assert "✓ 4 entries form one chain; 4 digests in the registry vouch for it" in shown.out

    back = mscflow("models", "rollback", MODEL, "--reason", "bad", "--by", "operator-2", "--json", cwd=laboratory)
    assert back.code == 0, back.err
    assert (back.json["version"], back.json["endpoint"]) == ("1", None)
    found = mscflow("models", "audit", MODEL, "--last", "1", "--json", cwd=laboratory).json
    (entry,) = found["entries"]
    assert (entry["action"], entry["actor"], entry["reason"]) == ("model.rolled_back", "operator-2", "bad")
    assert (found["count"], found["sound"], found["unrecorded"]) == (5, True, [])

    none = mscflow("models", "approve", MODEL, "2", "--reason", "seen", cwd=laboratory)
    assert none.code == 2
    assert "does not wait for approval" in none.err

    (laboratory / ".mscflow" / "store" / "audit" / "00000002.json").unlink()
    torn = mscflow("models", "audit", cwd=laboratory)
    assert torn.code == 1
    assert "✗ entry 2 was removed" in torn.out
    assert "the audit log is not what was entered: entry 2 was removed" in torn.err
    assert "Traceback" not in torn.err
    machine = mscflow("models", "audit", "--json", cwd=laboratory)
    answer, complaint = map(json.loads, machine.out.splitlines())
    assert (machine.code, answer["sound"], complaint["exit_code"]) == (1, False, 1)
