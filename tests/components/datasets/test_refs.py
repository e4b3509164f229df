from datetime import UTC, datetime

import pytest

from components.datasets.refs import LogEntry, Refs, entry_key, ref_key
from components.errors import ConflictError, DataError, IntegrityError
from components.storage import ObjectStore


def entry(version: str, parent: str | None = None) -> LogEntry:
    time = datetime(2026, 11, 23, 12, tzinfo=UTC)
    return LogEntry(version=version * 64, time=time, author="lab", message=version, images=1, parent=parent)


def test_moves_are_logged_newest_first(store: ObjectStore) -> None:
    refs = Refs(store)
    for version in "abc":
        head = refs.head("main")
        refs.move("main", head, entry(version, head and head.entry))
    assert [each.message for each in refs.log("main")] == ["c", "b", "a"]
    assert refs.names() == ["main"]


def test_who_comes_second_is_told(store: ObjectStore) -> None:
    refs = Refs(store)
    refs.move("main", None, entry("a"))
    head = refs.head("main")
    assert head is not None
    refs.move("main", head, entry("b", head.entry))
    for stale in (head, None):
        with pytest.raises(ConflictError):
            refs.move("main", stale, entry("c", stale and stale.entry))
    assert [each.message for each in refs.log("main")] == ["b", "a"]


def test_a_move_whose_answer_was_lost_is_not_a_conflict(store: ObjectStore) -> None:
    refs = Refs(store)
    refs.move("main", None, entry("a"))
    refs.move("main", None, entry("a"))  # what a repeated attempt looks like to the server
    assert [each.message for each in refs.log("main")] == ["a"]


@pytest.mark.parametrize("name", ["", "a b", "../main", "a/b", "-x", ".hidden", "ü", "n" * 101, "a" * 64, "a\n"])
def test_names_that_no_ref_can_have(store: ObjectStore, name: str) -> None:
    with pytest.raises(DataError, match="cannot be a ref's name: use up to 100 letters"):
        Refs(store).head(name)


def test_a_missing_ref_is_told_with_those_there_are(store: ObjectStore) -> None:
    refs = Refs(store)
    with pytest.raises(DataError, match="has no ref 'main'; it has no refs yet"):
        list(refs.log("main"))
    refs.move("clinic", None, entry("a"))
    with pytest.raises(DataError, match="has no ref 'main'; its refs: clinic"):
        list(refs.log("main"))


def test_a_rewritten_log_is_noticed(store: ObjectStore) -> None:
    refs = Refs(store)
    refs.move("main", None, entry("a"))
    head = refs.head("main")
    assert head is not None
    key = entry_key(head.entry)
    store.write(key, store.read(key).replace(b'"lab"', b'"foe"'))
    with pytest.raises(IntegrityError, match="was altered"):
        list(refs.log("main"))
    store.delete(key)
    with pytest.raises(IntegrityError, match="has lost log/"):
        list(refs.log("main"))


def test_a_garbled_ref_is_noticed(store: ObjectStore) -> None:
    store.write(ref_key("main"), b"{}")
    with pytest.raises(IntegrityError, match=r"refs/main\.json .* was altered"):
        Refs(store).head("main")
