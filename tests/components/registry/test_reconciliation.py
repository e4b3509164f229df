from collections.abc import Callable
from pathlib import Path

import pytest

from components import tracking
from components.audit.log import AuditLog
from components.registry import journal
from components.registry.auditing import read_audit
from components.registry.crown import rollback, settle
from components.registry.versions import Alias, Registry
from components.storage import open_store

BundleOf = Callable[..., Path]
MODELS = ((1,) * 8, (2,) * 8, (3,) * 8)


@pytest.fixture
def registry(sqlite_uri: str, tmp_path: Path) -> Registry:
    return Registry(sqlite_uri, tmp_path / "home", AuditLog(open_store(tmp_path / "log")))


@pytest.fixture
def three(registry: Registry, bundle_of: BundleOf) -> list[str]:
    """Three versions, none of them champion."""
    return [registry.register(bundle_of(answers)).version.version for answers in MODELS]


def actions(registry: Registry) -> list[str]:
    return [each.action for each in registry.audit.entries()]


def test_a_champion_made_by_hand_is_told_once(registry: Registry, three: list[str], model_name: str) -> None:
    client = tracking.client(registry.uri)
    client.set_registered_model_alias(model_name, "champion", "2")
    found = read_audit(registry.audit.store.uri, registry.uri)
    assert found["sound"]
    assert f"{model_name}: version 2 is champion by no entry" in found["unrecorded"][0]
    settle(registry, model_name)
    settle(registry, model_name)
    assert actions(registry)[3:] == ["model.reconciled"]
    entry = next(registry.audit.newest_first())
    assert (entry.subject, entry.details["champion"]) == (f"{model_name}/2", "2")
    assert read_audit(registry.audit.store.uri, registry.uri)["unrecorded"] == []


def test_an_alias_moved_by_hand_is_told_and_a_rollback_goes_back_to_what_the_log_said(
    registry: Registry, three: list[str], model_name: str
) -> None:
    client = tracking.client(registry.uri)
    client.set_registered_model_alias(model_name, "champion", "1")
    settle(registry, model_name)
    client.set_registered_model_alias(model_name, "champion", "3")
    settle(registry, model_name)
    entry = next(registry.audit.newest_first())
    assert "left version 1 champion, but the registry names version 3" in entry.reason
    assert rollback(registry, model_name, "not ours").version == "1"


def test_a_champion_dropped_by_hand_is_told(registry: Registry, three: list[str], model_name: str) -> None:
    registry.set_alias(registry.show(model_name, "1"), Alias.CHAMPION)
    settle(registry, model_name)
    registry.drop_alias(model_name, Alias.CHAMPION)
    assert settle(registry, model_name) is None
    entry = next(registry.audit.newest_first())
    assert (entry.action, entry.details["champion"]) == ("model.reconciled", None)


def test_a_version_from_before_the_log_is_told(sqlite_uri: str, bundle_of: BundleOf, tmp_path: Path, model_name: str):
    Registry(sqlite_uri).register(bundle_of())
    registry = Registry(sqlite_uri, None, AuditLog(open_store(tmp_path / "log")))
    settle(registry, model_name)
    settle(registry, model_name)
    (entry,) = registry.audit.entries()
    assert (entry.action, entry.subject) == ("model.reconciled", f"{model_name}/1")
    assert "registered before this log began" in entry.reason


def test_a_tag_that_is_nothing_of_ours_is_dropped(registry: Registry, three: list[str], model_name: str) -> None:
    registry.tag(registry.show(model_name, "1"), {"pending.model.promoted": "{"})
    (note,) = read_audit(registry.audit.store.uri, registry.uri)["unrecorded"]
    assert "was cut off before it was entered" in note
    settle(registry, model_name)
    assert "pending.model.promoted" not in registry.show(model_name, "1").tags
    assert actions(registry) == ["model.registered"] * 3


def test_the_registry_notes_every_entry_on_it(registry: Registry, three: list[str], model_name: str) -> None:
    registry.set_alias(registry.show(model_name, "2"), Alias.CHAMPION)
    settle(registry, model_name)
    noted = {each.place: each.digest for each in journal.anchors(registry.versions(model_name))}
    assert noted == {each.sequence: each.digest for each in registry.audit.entries()}


def test_a_cut_off_log_is_told_by_the_registry(registry: Registry, three: list[str]) -> None:
    store = registry.audit.store
    head = read_audit(store.uri, registry.uri)["head"]
    assert read_audit(store.uri, registry.uri, expect=head[:16])["sound"]
    store.delete("audit/00000002.json")
    found = read_audit(store.uri, registry.uri)
    assert [(each["place"], each["kind"]) for each in found["faults"]] == [(2, "removed")]
    assert "the tags of" in found["faults"][0]["note"]
    expected = read_audit(store.uri, registry.uri, expect=head[:16])["faults"]
    assert f"no entry has the digest '{head[:16]}'" in expected[-1]["note"]
    assert not read_audit(store.uri, registry.uri, expect="")["sound"]
