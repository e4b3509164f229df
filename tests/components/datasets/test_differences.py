from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.culture import ConfluenceClass
from components.datasets.differences import ChangeKind
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.errors import DataError


def record(path: str, sha256: str = "a", label: int | None = None) -> ImageRecord:
    return ImageRecord(
        path=path, sha256=sha256 * 64, size=1, confluence_class=None if label is None else ConfluenceClass(label)
    )


def test_every_kind_of_difference(repository: DataRepository) -> None:
    before = repository.add_version([record("bytes"), record("gone"), record("label", label=1), record("same")])
    after = repository.add_version([record("bytes", "b"), record("label", label=2), record("new"), record("same")])
    diff = repository.diff(before, after)
    assert (diff.added, diff.removed, diff.changed) == (1, 1, 2)
    assert [(change.path, change.kind) for change in diff] == [
        ("bytes", ChangeKind.IMAGE),
        ("gone", ChangeKind.REMOVED),
        ("label", ChangeKind.METADATA),
        ("new", ChangeKind.ADDED),
    ]
    _, gone, label, new = diff
    assert (gone.before, gone.after) == (record("gone"), None)
    assert (label.before, label.after) == (record("label", label=1), record("label", label=2))
    assert (new.before, new.after) == (None, record("new"))


def test_a_version_does_not_differ_from_itself(repository: DataRepository) -> None:
    version = repository.add_version([record("a")])
    diff = repository.diff(version, version)
    assert (diff.added, diff.removed, diff.changed, list(diff)) == (0, 0, 0, [])


def test_an_unknown_version_is_told(repository: DataRepository) -> None:
    version = repository.add_version([record("a")])
    for pair in ((version, "f" * 64), ("f" * 64, version)):
        with pytest.raises(DataError, match="holds no data version ffff"):
            repository.diff(*pair)


_contents = st.dictionaries(
    st.text("ab/", min_size=1).filter(lambda p: all(p.split("/"))), st.sampled_from("xy"), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(_contents, _contents)
def test_the_merge_agrees_with_sets(
    repository_of_all_examples: DataRepository, before: dict[str, str], after: dict[str, str]
) -> None:
    def add(content: dict[str, str]) -> str:
        return repository_of_all_examples.add_version(record(path, sha256) for path, sha256 in content.items())

    changes = list(repository_of_all_examples.diff(add(before), add(after)))
    by_kind = {kind: {change.path for change in changes if change.kind == kind} for kind in ChangeKind}
    assert by_kind == {
        ChangeKind.ADDED: set(after) - set(before),
        ChangeKind.REMOVED: set(before) - set(after),
        ChangeKind.IMAGE: {path for path in set(before) & set(after) if before[path] != after[path]},
        ChangeKind.METADATA: set(),
    }
    assert [change.path for change in changes] == sorted(change.path for change in changes)


@pytest.fixture(scope="module")
def repository_of_all_examples(tmp_path_factory: pytest.TempPathFactory) -> Iterable[DataRepository]:
    from components.storage import open_store

    return DataRepository(open_store(tmp_path_factory.mktemp("store")))
