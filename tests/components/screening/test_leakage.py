import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from components.culture import Modality
from components.datasets.blobs import blob_key
from components.datasets.frozen import Frozen, FrozenImage, write_frozen
from components.datasets.manifest import ImageRecord
from components.datasets.simulation import simulate
from components.datasets.versions import DataRepository
from components.screening.leakage import find_copies, likenesses, pattern
from components.storage import open_store


@pytest.fixture(scope="module")
def cultures(tmp_path_factory) -> list[Image.Image]:
    """Look-alikes: images of few vessels, day by day."""
    folder = tmp_path_factory.mktemp("cultures") / "drawn"
    simulate(folder, images=40, modality=Modality.SINGLE_STACK, vessels=2, size=(128, 160))
    return [Image.open(path).convert("RGB") for path in sorted(Path(folder).rglob("*.png"))]


def recoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return Image.open(file)


CHANGES = {
    "JPEG": lambda image: recoded(image, "JPEG", quality=40),
    "half": lambda image: image.resize((80, 64)),
    "square": lambda image: image.resize((200, 200)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "turned": lambda image: image.rotate(90, expand=True),
    "mirrored and turned": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(180),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_copy_is_like_its_original_and_no_other_image_is(cultures, change):
    originals = np.stack([pattern(image) for image in cultures])
    copies = np.stack([pattern(change(image)) for image in cultures])
    best, whose = likenesses(copies, originals)
    assert whose.tolist() == list(range(len(cultures)))
    assert best.min() > 0.9
    for number in range(len(cultures)):
        others, _ = likenesses(copies[number : number + 1], np.delete(originals, number, axis=0))
        assert others[0] < 0.9


def test_a_picture_without_a_pattern_is_like_none():
    plain = pattern(Image.new("RGB", (64, 64), (90, 90, 90)))
    ramp = pattern(Image.fromarray(np.tile(np.linspace(60, 180, 64).astype(np.uint8), (64, 1))))
    best, _ = likenesses(np.stack([plain]), np.stack([plain, ramp]))
    assert best[0] == 0


class Line:
    """A lineage whose one test image, and one other, are two of the cultures."""

    def __init__(self, folder, cultures) -> None:
        self.repository, self.cache = DataRepository(open_store(folder / "store")), folder / "cache"
        self.parent = [self.hold("old/test.png", cultures[0]), self.hold("old/learnt.png", cultures[1])]
        test = self.parent[0]
        for lineage in ("clinic-abnormal-cells",):
            frozen = Frozen(lineage, test=(FrozenImage(test.path, test.sha256, "v0"),))
            write_frozen(self.repository.store, frozen, None)

    def hold(self, path, image, form="PNG", **options):
        import hashlib

        file = io.BytesIO()
        image.save(file, form, **options)
        data = file.getvalue()
        sha256 = hashlib.sha256(data).hexdigest()
        self.repository.store.ensure(blob_key(sha256), data, len(data))
        return ImageRecord(path=path, sha256=sha256, size=len(data))

    def find(self, *records):
        found = find_copies(self.repository, records, self.parent, "clinic", 0.9, self.cache)
        return [(copy.path, copy.of, copy.kind) for copy in found]


@pytest.fixture
def line(tmp_path, cultures):
    return Line(tmp_path, cultures)


def test_exact_and_encoded_copies_are_named_with_what_they_are_copies_of(line, cultures):
    found = line.find(
        line.hold("new/a.png", cultures[0]),
        line.hold("new/b.jpg", cultures[0].resize((120, 96)), "JPEG"),
        line.hold("new/c.jpg", cultures[1], "JPEG"),
        line.hold("new/d.png", cultures[2]),
    )
    assert found == [
        ("new/a.png", "old/test.png", "test image"),
        ("new/b.jpg", "old/test.png", "test image"),
        ("new/c.jpg", "old/learnt.png", "known image"),
    ]


def test_an_image_that_comes_again_is_no_copy_of_itself(line):
    assert line.find(*line.parent) == []


def test_a_known_image_may_be_replaced_by_a_better_file_but_not_a_test_image(line, cultures):
    assert line.find(line.hold("old/learnt.png", cultures[1], "JPEG")) == []
    assert line.find(line.hold("old/test.png", cultures[0], "JPEG")) == [("old/test.png", "old/test.png", "test image")]


def test_a_test_image_that_the_lineage_lacks_now_is_known_by_its_bytes(line, cultures):
    copy = line.hold("new/a.png", cultures[0])
    line.parent = line.parent[1:]
    assert line.find(copy) == [("new/a.png", "old/test.png", "test image")]
