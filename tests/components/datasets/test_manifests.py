from collections.abc import Iterable

import msgspec
import pytest

from components.culture import ConfluenceClass, Modality
from components.datasets.manifest import Box, ImageRecord, encode
from components.datasets.manifests import Manifests, canonical_lines, manifest_key, merged, spooled
from components.errors import DataError, IntegrityError
from components.storage import ObjectStore

FULL = ImageRecord(
    path="v1/ü.png",
    sha256="a" * 64,
    size=5,
    modality=Modality.MULTI_STACK,
    confluence_class=ConfluenceClass.SUBCULTURE,
    confluence=0.7,
    boxes=(Box(1.5, 2.0, 3.0, 4.0, "Flatten"),),
    vessel="v1",
    day=3,
    extra={"note": 'with "quotes", and\nlines'},
)


def record(path: str, sha256: str = "b" * 64) -> ImageRecord:
    return ImageRecord(path=path, sha256=sha256, size=1)


def lines(*records: ImageRecord) -> list[bytes]:
    return list(canonical_lines(records))


def add(store: ObjectStore, records: Iterable[ImageRecord]) -> str:
    with spooled(canonical_lines(records)) as manifest:
        Manifests(store).add(manifest)
        return manifest.version


def test_what_was_added_is_read_in_order(store: ObjectStore) -> None:
    version = add(store, [FULL, record("b"), record("a/2"), record("a")])
    records = list(Manifests(store).records(version))
    assert [each.path for each in records] == ["a", "a/2", "b", "v1/ü.png"]
    assert records[-1] == FULL


def test_the_id_depends_on_the_content_alone(store: ObjectStore) -> None:
    one = add(store, [record("a"), record("b")])
    assert add(store, [record("b"), record("a")]) == one
    assert add(store, [record("a"), record("c")]) != one
    assert sorted(Manifests(store).ids(one[:6])) == [one]


def test_whole_numbers_and_fractions_that_are_equal_are_written_alike() -> None:
    assert lines(record("a").__replace__(confluence=1)) == lines(record("a").__replace__(confluence=1.0))


def test_lines_do_not_depend_on_the_order_of_further_columns() -> None:
    one, other = ({"x": "1", "y": "2"}, {"y": "2", "x": "1"})
    assert lines(record("a").__replace__(extra=one)) == lines(record("a").__replace__(extra=other))


def test_two_images_of_one_path_are_refused() -> None:
    with pytest.raises(DataError, match="two images have the path 'a'"):
        lines(record("a", "b" * 64), record("a", "c" * 64))


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "a//b", "a/", " a", "a\\b", "a\nb", "\udcff.png"])
def test_paths_that_no_folder_could_hold_are_refused(path: str) -> None:
    with pytest.raises(DataError, match=r"the (path|file name) "):
        lines(record(path))


def test_metadata_that_could_not_be_read_back_is_refused() -> None:
    with pytest.raises(DataError, match=r"a: Invalid enum value 7 - at `\$\.confluence_class`"):
        lines(record("a").__replace__(confluence_class=7))


def test_a_version_without_images_is_refused(store: ObjectStore) -> None:
    with pytest.raises(DataError, match="at least one image"):
        add(store, [])


def test_an_unknown_version_is_told(store: ObjectStore) -> None:
    with pytest.raises(DataError, match="holds no data version ffff"):
        list(Manifests(store).lines("f" * 64))


@pytest.mark.parametrize("change", [lambda c: c.replace(b'"size":1', b'"size":2'), lambda c: c[:-9], lambda c: b""])
def test_an_altered_manifest_is_noticed(store: ObjectStore, change: object) -> None:
    assert callable(change)
    version = add(store, [record("a"), record("b")])
    store.write(manifest_key(version), change(store.read(manifest_key(version))))
    with pytest.raises(IntegrityError, match="was altered"):
        list(Manifests(store).records(version))


def test_merging_keeps_the_order_and_prefers_what_is_added() -> None:
    base = lines(record("a"), record("c"), record("e"))
    added = lines(record("b"), record("c", "d" * 64), record("f"))
    both = [msgspec.json.decode(line, type=ImageRecord) for line in merged(base, added)]
    assert [each.path for each in both] == ["a", "b", "c", "e", "f"]
    assert both[2].sha256 == "d" * 64


@pytest.mark.parametrize("paths", [([], ["a", "b"]), (["a", "b"], []), (["a"], ["a"]), (["b"], ["a"]), (["a"], ["b"])])
def test_merging_at_the_ends(paths: tuple[list[str], list[str]]) -> None:
    base, added = (lines(*map(record, each)) for each in paths)
    expected = lines(*map(record, sorted({*paths[0], *paths[1]})))
    assert list(merged(base, added)) == expected


def test_lines_are_those_of_the_manifest_format() -> None:
    assert lines(FULL) == [encode(FULL).rstrip(b"\n")]
