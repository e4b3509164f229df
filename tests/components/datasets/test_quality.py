import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.culture import ConfluenceClass, Modality
from components.datasets.importers import find_images
from components.datasets.manifest import Box
from components.datasets.quality import validate
from components.errors import DataError
from components.events import Progress
from components.settings import DataSettings
from components.storage import open_store

SETTINGS = DataSettings()
ONE, TWO, THREE, FOUR = ConfluenceClass


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def noise(mean, deviation, side=64, seed=0):
    return np.clip(np.random.default_rng(seed).normal(mean, deviation, (side, side)), 0, 255)


def smooth(side=256):
    y, x = np.mgrid[0:side, 0:side] / side * 2 * np.pi
    return 128 + 60 * np.sin(x) * np.sin(y)


@pytest.fixture
def judge(repository, hold, png):
    """Validates images beside one that passes, and gives the findings by path."""

    def judge(*images, settings=SETTINGS):
        records = [hold(path, data, **fields) for path, data, fields in images]
        good = hold("~good.png", png(99), vessel="v")
        version = repository.add_version([*records, good])
        result = validate(repository, version, settings)
        assert result.accepted + len(result.quarantined) == len(records) + 1
        kept = [record.path for record in repository.records(result.version)]
        assert sorted([*kept, *(finding.path for finding in result.quarantined)]) == sorted(
            [*(record.path for record in records), good.path]
        )
        return {finding.path: (finding.reason, finding.message) for finding in result.quarantined}

    return judge


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"no image", "unreadable"),
        (encoded(noise(128, 40))[:900], "truncated"),
        (encoded(noise(128, 40, side=1)), "too_small"),
        (encoded(noise(128, 40, side=31)), "too_small"),
        (encoded(noise(128, 1)), "blank"),
        (encoded(np.full((64, 64), 128)), "blank"),
        (encoded(noise(8, 4)), "underexposed"),
        (encoded(np.zeros((64, 64))), "underexposed"),
        (encoded(noise(250, 3)), "overexposed"),
        (encoded(smooth()), "blurred"),
    ],
)
def test_pixels_that_cannot_be_learnt_from(judge, data, reason):
    assert judge(("a.png", data, {}))["a.png"][0] == reason


@pytest.mark.parametrize("data", [encoded(noise(128, 5)), encoded(noise(30, 10)), encoded(noise(225, 8, side=32))])
def test_poor_pixels_that_can(judge, data):
    assert judge(("a.png", data, {})) == {}


def test_every_limit_can_be_set(judge):
    lax = DataSettings(min_side=1, min_contrast=0, max_clipped=1, min_sharpness=0)
    pixels = [noise(128, 1), np.zeros((64, 64)), noise(250, 3), smooth(), noise(128, 40, side=1)]
    images = [(f"{number}.png", encoded(each), {}) for number, each in enumerate(pixels)]
    assert len(judge(*images)) == 5
    assert judge(*images, settings=lax) == {}
    assert (
        judge(("a.png", encoded(noise(128, 40)), {}), settings=DataSettings(max_pixels=4095))["a.png"][0] == "too_large"
    )


def test_of_equal_images_the_first_by_path_stays(judge, png):
    copies = [(path, png(1), {"confluence_class": TWO}) for path in ("c.png", "a.png", "b.png")]
    assert judge(*copies) == dict.fromkeys(("b.png", "c.png"), ("duplicate", "the same bytes as a.png, which is kept"))


def test_of_equal_images_one_with_a_class_stays(judge, png):
    found = judge(("a.png", png(1), {}), ("b.png", png(1), {"confluence_class": TWO}), ("c.png", png(1), {}))
    assert found == dict.fromkeys(("a.png", "c.png"), ("duplicate", "the same bytes as b.png, which is kept"))


def test_equal_images_that_contradict_each_other_all_go(judge, png):
    labels = {"a.png": THREE, "b.png": ONE, "c.png": None, "d.png": THREE}
    found = judge(*((path, png(1), {"confluence_class": label}) for path, label in labels.items()))
    assert found == dict.fromkeys(labels, ("contradiction", "the same image is labelled 1 and 3"))


def test_many_empty_files_are_empty_and_not_duplicates(judge):
    found = judge(*((f"{number}.png", b"", {"confluence_class": ONE}) for number in range(3)))
    assert {reason for reason, _ in found.values()} == {"empty"}


@pytest.mark.parametrize(
    ("label", "confluence", "contradicts"),
    [
        (ONE, 0.39, False),
        (ONE, 0.404, False),
        (ONE, 0.41, True),
        (TWO, 0.396, False),
        (FOUR, 1.0, False),
        (FOUR, 0.2, True),
    ],
)
def test_a_class_must_fit_its_own_confluence(judge, png, label, confluence, contradicts):
    found = judge(("a.png", png(1), {"confluence_class": label, "confluence": confluence}))
    assert ("a.png" in found) == contradicts
    if contradicts:
        assert found["a.png"][0] == "contradiction"
        assert f"{confluence:.1%}" in found["a.png"][1]


@pytest.mark.parametrize(
    ("corners", "fits"),
    [
        ((0, 0, 48, 40), True),
        ((-1, 0, 49, 41), True),
        ((0, 0, 50, 40), False),
        ((0, 0, 48, 42), False),
        ((-2, 0, 9, 9), False),
        ((9, 9, 9, 12), False),
        ((9, 9, 3, 12), False),
    ],
)
def test_boxes_must_lie_in_the_image(judge, png, corners, fits):
    boxes = (Box(1, 1, 5, 5, "cell"), Box(*corners, "Flatten"))
    found = judge(("a.png", png(1), {"boxes": boxes}))
    assert ("a.png" in found) == (not fits)
    assert all(reason == "bad_box" and "(Flatten)" in message for reason, message in found.values())


def test_a_version_without_faults_stays_what_it_is(repository, hold, png, tmp_path):
    version = repository.add_version([hold(f"{n}.png", png(n), vessel="v") for n in range(3)])
    result = validate(repository, version, SETTINGS, tmp_path)
    assert (result.version, result.accepted, result.reasons, result.warnings) == (version, 3, {}, [])


def test_nothing_left_says_what_there_was(repository, hold):
    version = repository.add_version([hold("a.png", b""), hold("b.png", b"x"), hold("c.png", b"y")])
    with pytest.raises(
        DataError, match=r"no image can be used \(2 unreadable, 1 empty; first a\.png: the image file has"
    ):
        validate(repository, version, SETTINGS)


def test_images_without_a_group_are_warned_of(repository, hold, png):
    named = [hold("a.png", png(0), vessel="v"), hold("b.png", png(1), group="g")]
    version = repository.add_version([*named, hold("c.png", png(2))])
    (warning,) = validate(repository, version, SETTINGS).warnings
    assert warning.startswith("1 of 3 images name no vessel and no group")


def test_progress_counts_every_image(repository, hold, png):
    version = repository.add_version([hold("a.png", png(0)), hold("b.png", b"")])
    progress = Progress("validate", 2, "images")
    validate(repository, version, SETTINGS, progress=progress)
    assert progress.done == 2


@pytest.mark.slow
@pytest.mark.skipif("MSCFLOW_REAL_DATA" not in os.environ, reason="MSCFLOW_REAL_DATA is not set")
def test_real_images_pass_except_one_with_an_empty_box(repository, tmp_path):
    source = open_store(Path(os.environ["MSCFLOW_REAL_DATA"]))
    images = find_images(source, modality=Modality.SINGLE_STACK, unlabelled=True)
    version = repository.snapshot(source, images, ref="real", message="all").version
    result = validate(repository, version, SETTINGS, tmp_path)
    assert result.accepted == 498
    assert [(finding.path, finding.reason) for finding in result.quarantined] == [
        ("detection/bccd/images/BloodImage_00343.jpg", "bad_box")
    ]
