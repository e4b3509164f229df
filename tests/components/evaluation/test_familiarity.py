import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from components.datasets.blobs import blob_key
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.errors import ImageError, IntegrityError
from components.evaluation import familiarity
from components.evaluation.familiarity import familiarise, sampled, share
from components.novelty import TRAITS
from components.storage import open_store


def hold(repository, name, data):
    sha256 = hashlib.sha256(data).hexdigest()
    repository.store.ensure(blob_key(sha256), data, len(data))
    return ImageRecord(path=name, sha256=sha256, size=len(data), group=name[0])


def grain(seed, mean=120):
    levels = np.random.default_rng(seed).normal(mean, 20, (64, 64)).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def parts_of(repository):
    sizes = {"train": 30, "validation": 10, "test": 10}
    return {
        part: [hold(repository, f"{part}{number}", grain(100 * place + number)) for number in range(size)]
        for place, (part, size) in enumerate(sizes.items())
    }


def test_test_images_are_tried(tmp_path):
    repository = DataRepository(open_store(tmp_path / "store"))
    parts = parts_of(repository)
    parts["test"] += [hold(repository, f"odd{number}", grain(900 + number, mean=230)) for number in range(10)]
    familiar, found = familiarise(repository, parts, tmp_path / "cache")
    assert (found.references, found.calibrated_on, found.n) == (30, 10, 20)
    assert found.promised == familiar.rate == 1 / 11
    assert 0.5 <= found.foreign.value <= 0.6
    assert found.foreign.low < found.foreign.value < found.foreign.high


def test_images_are_described_once(tmp_path, monkeypatch):
    repository = DataRepository(open_store(tmp_path / "store"))
    parts = parts_of(repository)
    first, found = familiarise(repository, parts, tmp_path / "cache")
    described = []
    monkeypatch.setattr(familiarity, "describe", lambda image: described.append(image) or np.zeros(len(TRAITS)))
    again, same = familiarise(repository, parts, tmp_path / "cache")
    assert not described and same == found
    first.write(tmp_path / "first.npz")
    again.write(tmp_path / "again.npz")
    assert (tmp_path / "first.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_an_image_that_cannot_be_decoded_is_named(tmp_path):
    repository = DataRepository(open_store(tmp_path / "store"))
    parts = parts_of(repository)
    parts["train"].append(hold(repository, "torn.png", grain(0)[:200]))
    with pytest.raises(ImageError, match=r"torn\.png"):
        familiarise(repository, parts, tmp_path / "cache")
    (tmp_path / "store" / blob_key(parts["test"][0].sha256)).unlink()
    parts["train"].pop()
    with pytest.raises(IntegrityError):
        familiarise(repository, parts, tmp_path / "cache")


def test_a_sample_stays_as_images_are_added(monkeypatch):
    monkeypatch.setattr(familiarity, "MOST_REFERENCES", 100)
    records = [
        ImageRecord(
            path=f"{number:04}", sha256=hashlib.sha256(bytes([number % 256, number // 256])).hexdigest(), size=0
        )
        for number in range(1000)
    ]
    few, many = sampled(records[:500]), sampled(records)
    assert len(few) == len(many) == 100
    assert few == sampled(records[499::-1])
    # Of the images that were there before, it holds the same ones.
    assert {each.path for each in many if each.path < "0500"} <= {each.path for each in few}
    assert sampled(records[:7]) == sorted(records[:7], key=lambda record: record.sha256)


def test_a_share_has_an_interval_over_groups():
    groups = [f"v{number // 5}" for number in range(50)]
    whole = share(np.repeat([1.0, 0.0], [5, 45]), groups)
    assert whole.value == 0.1 and whole.low == 0.0 and whole.high > 0.2
    none = share(np.zeros(50), groups)
    assert none.value == 0 and 0.2 < none.high < 0.4


def test_the_promise_is_a_setting(tmp_path):
    repository = DataRepository(open_store(tmp_path / "store"))
    _, found = familiarise(repository, parts_of(repository), tmp_path / "cache", false_abstain=0.3)
    assert found.promised == 0.3
