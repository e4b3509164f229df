import math
import re
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw, ImageFilter
from scipy import stats

from components import novelty
from components.culture import Modality
from components.datasets.simulation import render
from components.errors import IntegrityError
from components.novelty import MOST_NOVELTY, TRAITS, Familiar, describe

SIDE = 160
TRAIN, VALIDATION, HELD_OUT = 90, 50, 60


def culture(seed, modality=Modality.SINGLE_STACK, side=SIDE):
    rng = np.random.default_rng(seed)
    grey = render(float(rng.uniform(0.05, 0.98)), modality, rng, (side, side)).image
    return np.repeat(grey[..., np.newaxis], 3, axis=2)


@pytest.fixture(scope="module")
def cultures():
    return [culture(seed) for seed in range(TRAIN + VALIDATION + HELD_OUT)]


@pytest.fixture(scope="module")
def described(cultures):
    return np.stack([describe(image) for image in cultures])


@pytest.fixture(scope="module")
def familiar(described):
    return Familiar.fit(described[:TRAIN], described[TRAIN : TRAIN + VALIDATION])


@pytest.fixture(scope="module")
def unseen(cultures):
    return cultures[-HELD_OUT:]


def blurred(image, radius):
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def magnified(image, factor):
    part = image[: SIDE // factor, : SIDE // factor]
    return np.asarray(Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def minified(image, factor):
    small = np.asarray(Image.fromarray(image).resize((SIDE // factor, SIDE // factor), Image.Resampling.BOX))
    return np.tile(
        np.block([[[small], [small[:, ::-1]]], [[small[::-1]], [small[::-1, ::-1]]]]), (factor // 2, factor // 2, 1)
    )


def photograph(image):
    from sklearn.datasets import load_sample_images

    return load_sample_images().images[0][:SIDE, :SIDE]


def page(image):
    paper = Image.new("RGB", (SIDE, SIDE), "white")
    for top in range(8, SIDE, 14):
        ImageDraw.Draw(paper).text((6, top), "Sehr geehrte Damen und Herren, anbei", fill="black")
    return np.asarray(paper)


FOREIGN = {
    "black": np.zeros_like,
    "white": lambda image: np.full_like(image, 255),
    "blurred": lambda image: blurred(image, SIDE / 64),
    "photograph": photograph,
    "grey photograph": lambda image: np.asarray(Image.fromarray(photograph(image)).convert("L").convert("RGB")),
    "magnified": lambda image: magnified(image, 4),
    "minified": lambda image: minified(image, 4),
    "noise": lambda image: np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8),
    "page of text": page,
    "overexposed": lambda image: np.clip(image * 2.5, 0, 255).astype(np.uint8),
    "underexposed": lambda image: (image * 0.25).astype(np.uint8),
    "tinted": lambda image: np.clip(image * [1.3, 1.0, 0.6], 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_images_are_refused(familiar, unseen, kind):
    verdicts = [familiar.judge(FOREIGN[kind](image)) for image in unseen[:20]]
    assert all(verdict.novelty > 1 and verdict.note for verdict in verdicts)


def test_images_of_the_other_modality_are_refused(familiar):
    verdicts = [familiar.judge(culture(seed, Modality.MULTI_STACK)) for seed in range(20)]
    assert np.mean([verdict.novelty > 1 for verdict in verdicts]) >= 0.95


@pytest.mark.parametrize("promised", [0.02, 0.1])
def test_familiar_images_are_refused_as_seldom_as_promised(described, promised):
    """With a bound from M scores, how many of N new images lie beyond it has a beta-binomial distribution."""
    found = Familiar.fit(described[:TRAIN], described[TRAIN : TRAIN + VALIDATION], false_abstain=promised)
    refused = sum(found.judge_description(each).novelty > 1 for each in described[-HELD_OUT:])
    beyond = max(1, math.floor((VALIDATION + 1) * promised))
    assert found.rate == pytest.approx(max(promised, 1 / (VALIDATION + 1)))
    assert refused <= stats.betabinom(HELD_OUT, beyond, VALIDATION + 1 - beyond).ppf(0.999)


def test_the_bound_moves_with_the_promise(described):
    parts = described[:TRAIN], described[TRAIN:]
    bounds = [Familiar.fit(*parts, false_abstain=rate).threshold for rate in (0.3, 0.1, 0.02)]
    assert bounds == sorted(bounds) and bounds[0] < bounds[-1]


def test_few_validation_images_promise_what_they_can(described):
    found = Familiar.fit(described[:TRAIN], described[TRAIN : TRAIN + 9])
    assert (found.rate, found.calibrated_on) == (0.1, 9)
    assert max(found.judge_description(each).novelty for each in described[TRAIN : TRAIN + 9]) <= 1


def test_validation_images_of_another_world_do_not_open_the_door(described, unseen):
    """They would need a bound beyond which nothing lies, and then the promise cannot be kept."""
    strange = np.stack([describe(culture(seed, Modality.MULTI_STACK)) for seed in range(20)])
    found = Familiar.fit(described[:TRAIN], strange)
    assert found.rate > 0.3
    assert all(found.judge(FOREIGN[kind](unseen[0])).novelty > 1 for kind in FOREIGN)


def test_two_laboratories_do_not_hide_what_neither_would_know(described):
    other = np.stack([describe(culture(1000 + seed, Modality.MULTI_STACK)) for seed in range(60)])
    found = Familiar.fit(
        np.concatenate([described[:50], other[:40]]), np.concatenate([described[TRAIN : TRAIN + 30], other[40:]])
    )
    both = [culture(2000, modality) for modality in Modality]
    assert all(found.judge(image).novelty < 2 for image in both)
    assert all(found.judge(FOREIGN[kind](image)).novelty > 1 for kind in FOREIGN for image in both)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("underexposed", "far darker than the images that the model learnt from"),
        ("overexposed", "brighter|clipped to black or white"),
        ("tinted", "redder|less blue|more colourful"),
        ("blurred", "blurrier|smoother|sparser"),
    ],
)
def test_the_note_names_what_is_unusual(familiar, unseen, kind, words):
    notes = " ".join(familiar.judge(FOREIGN[kind](image)).note for image in unseen[:5])
    assert re.search(words, notes), notes


def test_a_familiar_image_has_no_note(familiar, cultures):
    verdict = familiar.judge(cultures[0])
    assert verdict.novelty <= 1 and verdict.note is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 7), (31, 31), (20, 640), (5000, 250)])
def test_tiny_and_narrow_images_are_refused(familiar, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert np.isfinite(describe(image)).all()
    assert familiar.judge(image) == (MOST_NOVELTY, familiar.judge(image).note)
    assert f"{shape[1]} x {shape[0]} pixels" in familiar.judge(image).note


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (10, 200, 30)])
def test_images_of_one_colour_are_refused(familiar, colour):
    image = np.full((64, 80, 3), colour, np.uint8)
    assert np.isfinite(describe(image)).all()
    assert familiar.judge(image).novelty == MOST_NOVELTY and "one colour" in familiar.judge(image).note
    image[63, 79] += 1
    assert 1 < familiar.judge(image).novelty <= MOST_NOVELTY


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 70), st.just(3))))
def test_every_image_is_judged(familiar, image):
    verdict = familiar.judge(image)
    assert describe(image).shape == (len(TRAITS),)
    assert 0 <= verdict.novelty <= MOST_NOVELTY
    assert (verdict.note is None) == (verdict.novelty <= 1)


def test_how_the_plate_lies_does_not_matter(unseen):
    slack = np.array([trait.slack for trait in novelty._TRAITS])
    for image in unseen[:5]:
        for turned in (image[::-1], image[:, ::-1], image.transpose(1, 0, 2)):
            assert np.all(np.abs(describe(turned) - describe(image)) < slack)


@pytest.mark.parametrize("scale", [1.3, 2, 2.7])
def test_the_size_of_a_large_export_does_not_matter(scale):
    """Beyond the side that images are shrunk to, more pixels show no more."""
    image = culture(5, side=512)
    larger = np.asarray(Image.fromarray(image).resize((round(512 * scale),) * 2, Image.Resampling.BICUBIC))
    assert np.abs(describe(larger) - describe(image)).max() < 0.6


def test_the_cost_does_not_grow_with_the_training(familiar, described):
    # Described images are few numbers; the largest data set leaves this many of them in the file.
    assert novelty.MOST_REFERENCES * len(TRAITS) * 4 < 200_000


def test_it_is_read_back_as_it_was(familiar, unseen, tmp_path):
    familiar.write(tmp_path / "novelty.npz")
    again = Familiar.read(tmp_path / "novelty.npz")
    assert (again.threshold, again.rate, again.calibrated_on) == (familiar.threshold, familiar.rate, VALIDATION)
    for image in (*unseen[:5], *(FOREIGN[kind](unseen[0]) for kind in FOREIGN)):
        assert again.judge(image) == familiar.judge(image)
    again.write(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "novelty.npz").read_bytes()


def test_the_same_images_give_the_same_file(described, tmp_path):
    for name in ("a.npz", "b.npz"):
        Familiar.fit(described[:TRAIN], described[TRAIN:]).write(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def rewritten(path, **changes):
    with np.load(path) as file:
        held = {name: file[name] for name in file.files} | changes
    np.savez(path, **{name: array for name, array in held.items() if array is not None})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"traits": np.array([*TRAITS[:-1], "mood"])}, "other statistics"),
        ({"radii": None}, "radii"),
        ({"radii": np.zeros(TRAIN)}, "not positive"),
        ({"radii": np.ones(TRAIN - 1)}, "'radii' is damaged"),
        ({"whitening": np.full((len(TRAITS), len(TRAITS)), np.nan)}, "'whitening' is damaged"),
        ({"references": np.ones((0, len(TRAITS)))}, "'references' is damaged"),
        ({"references": np.array(3.0)}, "references"),
        ({"bound": np.array([np.inf, 0.02, 60])}, "'bound' is damaged"),
        ({"bound": np.array(["1", "0.02", "60"])}, "'bound' is damaged"),
        ({"references": np.array([object()])}, "pickle"),
    ],
)
def test_an_odd_file_is_refused(familiar, tmp_path, changes, words):
    path = tmp_path / "novelty.npz"
    familiar.write(path)
    rewritten(path, **changes)
    with pytest.raises(IntegrityError, match=words):
        Familiar.read(path)


def test_a_damaged_file_is_refused(familiar, tmp_path):
    path = tmp_path / "novelty.npz"
    with pytest.raises(IntegrityError, match=r"novelty\.npz"):
        Familiar.read(path)
    familiar.write(path)
    whole = path.read_bytes()
    for data in (
        b"",
        b"PK",
        whole[:400],
        whole[:-30],
        whole[:2000] + bytes([255 - whole[2000]]) + whole[2001:],
        b"\x93NUMPY" + whole,
    ):
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match="download the model again"):
            Familiar.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("traits.npy", b"nothing")
    with pytest.raises(IntegrityError):
        Familiar.read(path)


def test_few_training_images_do(described):
    for count in (1, 2, 3, 7):
        found = Familiar.fit(described[:count], described[TRAIN : TRAIN + 5])
        assert found.judge_description(described[0]).novelty <= 1
        assert found.judge(np.zeros((99, 99, 3), np.uint8)).novelty > 1
    same = Familiar.fit(np.repeat(described[:1], 6, axis=0), described[:1])
    assert same.judge_description(described[0]).novelty < 1e-3


@pytest.mark.parametrize(("train", "validation"), [(0, 3), (3, 0)])
def test_nothing_is_learnt_from_nothing(described, train, validation):
    with pytest.raises(ValueError, match="learnt from training images"):
        Familiar.fit(described[:train], described[:validation])


@pytest.mark.parametrize("size", [(40, 60), (700, 90), (600, 1100)])
def test_a_picture_is_described_as_the_array_of_its_pixels(size):
    pixels = np.random.default_rng(5).integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(describe(Image.fromarray(pixels)), describe(pixels))
