import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.datasets import arrays
from components.datasets.arrays import load_arrays
from components.datasets.blobs import blob_key
from components.errors import ImageError, IntegrityError, StorageError
from components.imaging import Preprocessing, decode, resize


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def records(hold, png):
    return [hold(f"{seed}.png", png(seed)) for seed in range(40)]


def test_images_come_in_the_order_of_the_records(repository, records, png, cache):
    chosen = [records[7], records[0], records[7], records[39]]
    images = load_arrays(repository, chosen, Preprocessing(size=16), cache)
    assert images.dtype == np.uint8
    assert np.array_equal(images, np.stack([resize(decode(png(seed)), 16) for seed in (7, 0, 7, 39)]))


def test_what_was_decoded_once_is_never_read_again(repository, records, cache):
    first = load_arrays(repository, records, Preprocessing(size=16), cache)
    for record in records:
        repository.store.delete(blob_key(record.sha256))
    assert np.array_equal(load_arrays(repository, records, Preprocessing(size=16), cache), first)
    with pytest.raises(IntegrityError):
        load_arrays(repository, records[:1], Preprocessing(size=17), cache)


def test_what_is_masked_is_kept_apart(repository, hold, cache):
    grey = np.full((64, 64, 3), 150, np.uint8)
    grey[24:40, 24:40] = 20
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    record = hold("clump.png", buffer.getvalue())
    kept, masked, again = (
        load_arrays(repository, [record], Preprocessing(size=64, clumps=each), cache)
        for each in ("kept", "masked", "kept")
    )
    assert np.array_equal(kept, again)
    assert masked[0, 32, 32].mean() > 100


def test_what_is_equalised_is_kept_apart(repository, records, cache):
    def load(method):
        return load_arrays(repository, records[:1], Preprocessing(size=32, equalisation=method), cache)

    none, whole, tiles = (load(method) for method in ("none", "equalise", "clahe"))
    assert not np.array_equal(none, whole)
    assert not np.array_equal(whole, tiles)
    assert np.array_equal(load("none"), none)
    assert np.array_equal(load("clahe"), tiles)


def test_a_new_version_costs_its_new_images_alone(repository, records, cache):
    load_arrays(repository, records[:39], Preprocessing(size=16), cache)
    for record in records[:39]:
        repository.store.delete(blob_key(record.sha256))
    assert load_arrays(repository, records, Preprocessing(size=16), cache).shape == (40, 16, 16, 3)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:90] + b"\xff\x00" + data[92:], lambda _: b""]
)
def test_a_torn_or_altered_cache_is_decoded_anew(repository, records, cache, damage):
    first = load_arrays(repository, records, Preprocessing(size=16), cache)
    file = next(path for path in cache.rglob(f"{records[3].sha256}*"))
    file.write_bytes(damage(file.read_bytes()))
    assert np.array_equal(load_arrays(repository, records, Preprocessing(size=16), cache), first)


def test_the_array_may_be_changed_without_changing_the_cache(repository, records, cache):
    first = load_arrays(repository, records, Preprocessing(size=16), cache)
    kept = first.copy()
    first[:] = 0
    assert np.array_equal(load_arrays(repository, records, Preprocessing(size=16), cache), kept)


def test_much_is_mapped_from_a_file_that_leaves_nothing_behind(repository, records, cache, monkeypatch):
    expected = load_arrays(repository, records, Preprocessing(size=16), cache)
    files = set(cache.rglob("*"))
    monkeypatch.setattr(arrays, "_IN_MEMORY_BYTES", 1000)
    images = load_arrays(repository, records, Preprocessing(size=16), cache)
    assert isinstance(images, np.memmap)
    assert np.array_equal(images, expected)
    assert set(cache.rglob("*")) == files


def test_no_images_at_all(repository, cache):
    assert load_arrays(repository, [], Preprocessing(size=16), cache).shape == (0, 16, 16, 3)


def test_an_image_that_cannot_be_decoded_is_named(repository, records, hold, png, cache):
    broken = hold("plate 3/broken.png", png(1)[:900])
    with pytest.raises(ImageError, match=r"plate 3/broken\.png: the image is cut short") as caught:
        load_arrays(repository, [*records, broken], Preprocessing(size=16), cache)
    assert caught.value.reason == "truncated"


def test_a_cache_that_cannot_be_written(repository, records, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="mend the permissions of the cache"):
        load_arrays(repository, records, Preprocessing(size=16), tmp_path / "file")


def test_a_full_disk_is_told_and_leaves_no_partial_file(repository, records, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="No space left on device; free some space"):
        load_arrays(repository, records[:1], Preprocessing(size=16), cache)
    assert not [path for path in cache.rglob("*") if path.is_file()]
