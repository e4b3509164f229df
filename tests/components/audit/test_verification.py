import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from components.audit.entry import Entry, encode, entry_key, seal
from components.audit.log import AuditLog
from components.audit.verification import Anchor, verify
from components.storage import ObjectStore, open_store

N = 8
ANCHORED = (2, 5, 7)


@pytest.fixture(params=["folder", "s3"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> AuditLog:
    """Eight entries in a folder and on a real S3 server."""
    store = open_store(request.getfixturevalue("s3_uri") if request.param == "s3" else tmp_path / "store")
    made = AuditLog(store)
    for number in range(N):
        made.append("model.promoted", f"model/{number}", actor="operator-1", reason="better", details={"n": number})
    return made


@pytest.fixture
def anchors(log: AuditLog) -> list[Anchor]:
    return [Anchor(place, log.read(place).digest, "tags of a model") for place in ANCHORED]


def reseal(entry: Entry) -> Entry:
    """What a forger does who knows how entries are sealed."""
    return msgspec.structs.replace(entry, digest=seal(entry))


def put(store: ObjectStore, place: int, entry: Entry) -> None:
    store.write(entry_key(place), encode(entry))


def faults(log: AuditLog, anchors: list[Anchor]) -> list[tuple[int | None, str]]:
    return [(fault.place, fault.kind) for fault in verify(log, anchors).faults]


def test_a_log_that_nobody_touched_is_sound(log: AuditLog, anchors: list[Anchor]) -> None:
    result = verify(log, anchors)
    assert result.sound
    assert (len(result.readable), result.anchors, result.doubtful, result.fresh) == (N, 3, (), 0)
    assert result.head == log.read(N - 1).digest
    assert verify(log).sound
    assert verify(log, anchors[:2]).fresh == 2


def test_no_log_is_sound_and_a_lost_one_is_not(tmp_path: Path) -> None:
    empty = AuditLog(open_store(tmp_path / "store"))
    assert verify(empty) == ((), None, 0, (), (), 0)
    assert faults(empty, [Anchor(1, "0" * 64, "tags")]) == [(0, "removed"), (1, "removed")]


@pytest.mark.parametrize("field", [name for name in Entry.__struct_fields__ if name != "format"])
@pytest.mark.parametrize("place", [0, 4, 7])
def test_any_altered_field_is_named(tmp_path: Path, field: str, place: int) -> None:
    log = AuditLog(open_store(tmp_path / "store"))
    for number in range(N):
        log.append("a.b", f"model/{number}", actor="operator-1")
    content = json.loads(log.store.read(entry_key(place)))
    other = {"sequence": 99, "time": "2020-01-01T00:00:00Z", "details": {"x": 1}, "environment": {}}
    content[field] = other.get(field, "f" * 64)
    put(log.store, place, msgspec.convert(content, type=Entry))
    assert faults(log, []) == [(place, "altered")]


def test_an_entry_altered_and_sealed_anew_is_named_by_the_one_after_it(log: AuditLog, anchors: list[Anchor]) -> None:
    put(log.store, 3, reseal(msgspec.structs.replace(log.read(3), actor="nobody")))
    assert faults(log, anchors) == [(3, "altered")]
    assert verify(log, anchors).doubtful == ()  # entry 2 has an anchor, which vouches for all before it
    assert verify(log).doubtful == (0, 1, 2)


def test_the_last_entry_sealed_anew_is_named_by_its_anchor(log: AuditLog, anchors: list[Anchor]) -> None:
    put(log.store, 7, reseal(msgspec.structs.replace(log.read(7), reason="worse")))
    assert faults(log, anchors) == [(7, "forged")]
    assert verify(log, anchors).doubtful == (6,)


def test_what_means_the_same_but_is_written_otherwise_is_named(log: AuditLog, anchors: list[Anchor]) -> None:
    log.store.write(entry_key(4), json.dumps(json.loads(log.store.read(entry_key(4)))).encode())
    assert faults(log, anchors) == [(4, "altered")]


@pytest.mark.parametrize("place", range(N))
def test_a_removed_entry_is_named(log: AuditLog, anchors: list[Anchor], place: int) -> None:
    log.store.delete(entry_key(place))
    assert faults(log, anchors) == [(place, "removed")]


def test_a_tail_that_was_cut_off_is_named_by_its_anchors(log: AuditLog, anchors: list[Anchor]) -> None:
    for place in (4, 5, 6, 7):
        log.store.delete(entry_key(place))
    assert faults(log, anchors) == [(place, "removed") for place in (4, 5, 6, 7)]
    assert faults(log, anchors[:1]) == []  # what nobody noted elsewhere can be cut off


def test_a_tail_that_was_cut_off_and_written_anew_is_named(log: AuditLog, anchors: list[Anchor]) -> None:
    for place in range(4, N):
        log.store.delete(entry_key(place))
    for number in range(4, N):
        log.append("model.promoted", f"model/{number}", actor="somebody else")
    result = verify(log, anchors)
    assert [(fault.place, fault.kind) for fault in result.faults] == [(5, "forged"), (7, "forged")]
    assert result.doubtful == (3, 4, 6)


def test_entries_that_changed_places_are_named(log: AuditLog, anchors: list[Anchor]) -> None:
    third, sixth = log.read(3), log.read(6)
    put(log.store, 3, sixth)
    put(log.store, 6, third)
    assert faults(log, anchors) == [(3, "reordered"), (6, "reordered")]


def test_entries_that_changed_places_and_numbers_are_named(log: AuditLog, anchors: list[Anchor]) -> None:
    third, sixth = log.read(3), log.read(6)
    for place, other in ((3, sixth), (6, third)):
        put(log.store, place, reseal(msgspec.structs.replace(other, sequence=place, before=log.read(place).before)))
    assert faults(log, anchors) == [(3, "altered"), (6, "altered")]


def test_an_entry_that_claims_a_place_far_off_is_named(log: AuditLog, anchors: list[Anchor]) -> None:
    put(log.store, 4, reseal(msgspec.structs.replace(log.read(4), sequence=10**9)))
    assert sorted(faults(log, anchors)) == [(4, "removed"), (4, "reordered")]


def test_an_entry_covered_by_a_copy_of_another_is_named_twice(log: AuditLog, anchors: list[Anchor]) -> None:
    put(log.store, 3, log.read(6))
    assert sorted(faults(log, anchors)) == [(3, "removed"), (3, "reordered")]


def test_a_chain_forged_as_a_whole_is_named_at_each_anchor(log: AuditLog, anchors: list[Anchor]) -> None:
    for place in range(N):
        log.store.delete(entry_key(place))
    for number in range(N):
        log.append("model.promoted", f"model/{number}", actor="operator-1", reason="better", details={"n": number})
    assert verify(log).sound  # in itself it is
    result = verify(log, anchors)
    assert [(fault.place, fault.kind) for fault in result.faults] == [(place, "forged") for place in ANCHORED]
    assert {*result.doubtful, *ANCHORED} == set(range(N))


def test_a_file_that_is_no_entry_is_named(log: AuditLog, anchors: list[Anchor]) -> None:
    log.store.write("audit/notes.txt", b"x")
    log.store.write("audit/000003.json", b"{}")
    assert faults(log, anchors) == [(None, "foreign")] * 2


@pytest.mark.parametrize(
    "break_it", [lambda store: store.write(entry_key(4), b"\xff"), lambda store: store.write(entry_key(4), b"")]
)
def test_what_cannot_be_read_is_named(
    log: AuditLog, anchors: list[Anchor], break_it: Callable[[ObjectStore], None]
) -> None:
    break_it(log.store)
    assert faults(log, anchors) == [(4, "altered")]
