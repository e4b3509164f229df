import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.datasets.blobs import blob_key
from components.datasets.manifest import ImageRecord
from components.datasets.source import SourceImage
from components.datasets.versions import DataRepository
from components.storage import LocalStore, ObjectStore, open_store
from components.storage import local as local_store


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind in turn, both of them real."""
    uri = tmp_path / "store" if request.param == "folder" else request.getfixturevalue("s3_uri")
    return open_store(uri)


@pytest.fixture
def repository(tmp_path: Path) -> DataRepository:
    """Data versions in a folder."""
    return DataRepository(open_store(tmp_path / "store"))


@pytest.fixture
def hold(repository: DataRepository) -> Callable[..., ImageRecord]:
    """Gives ``hold``, which puts bytes into the repository and gives their record."""

    def hold(path: str, data: bytes, **fields: Any) -> ImageRecord:
        sha256 = hashlib.sha256(data).hexdigest()
        repository.store.ensure(blob_key(sha256), data, len(data))
        return ImageRecord(path=path, sha256=sha256, size=len(data), **fields)

    return hold


@pytest.fixture
def source(tmp_path: Path) -> LocalStore:
    """A folder of four small files that stand for images."""
    store = LocalStore(tmp_path / "source")
    store.root.mkdir()
    for name in ("1/a.png", "1/b.png", "2/c.png", "d.png"):
        put(store, name, f"bytes of {name}")
    return store


@pytest.fixture
def found() -> Callable[..., Iterator[SourceImage]]:
    """Gives ``find``, which finds everything in a source."""
    return find


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once, instead of two seconds after their last change."""
    monkeypatch.setattr(local_store, "SETTLE_NS", -1)


def put(store: LocalStore, name: str, content: str) -> None:
    path = store.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def find(source: ObjectStore, **metadata: object) -> Iterator[SourceImage]:
    return (SourceImage(info.key, info, info.key, dict(metadata)) for info in source.list())
