import hashlib
import io
import re

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.culture import ConfluenceClass, Modality
from components.datasets.blobs import blob_key
from components.datasets.manifest import ImageRecord
from components.datasets.simulation.picture import render
from components.datasets.versions import DataRepository
from components.errors import IntegrityError
from components.evaluation import baseline
from components.evaluation.metrics import Figure, predicted_classes
from components.storage import open_store


def picture(share, seed=0, side=96):
    """A smooth floor of which one side, ``share`` of it, is rough."""
    rng = np.random.default_rng(seed)
    grey = 128 + rng.normal(0, 1, (side, side))
    columns = round(share * side)
    grey[:, :columns] += rng.normal(0, 40, (side, columns))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_the_covered_share_is_the_rough_one(share):
    shares = baseline.coverage_of(picture(share))
    assert shares.shape == baseline.THRESHOLDS.shape
    assert np.all(np.diff(shares) <= 0)
    # The window blurs the border by some pixels.
    assert shares[baseline.FIXED] == pytest.approx(share, abs=0.06)


def test_a_large_picture_is_shrunk_first():
    large = np.kron(picture(0.5, side=256), np.ones((4, 4, 1), np.uint8))
    assert baseline.coverage_of(large)[baseline.FIXED] == pytest.approx(0.5, abs=0.06)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_scores_name_the_band_of_the_share(shares):
    scores = baseline.band_probabilities(np.array(shares))
    assert scores.sum(axis=1) == pytest.approx(1)
    assert predicted_classes(scores).tolist() == [ConfluenceClass.from_confluence(share) for share in shares]


def test_scores_fall_with_the_distance_of_the_band():
    assert np.all(np.diff(baseline.band_probabilities(np.array([0.1]))[0]) < 0)
    assert np.all(np.diff(baseline.band_probabilities(np.array([0.95]))[0]) > 0)


def test_the_threshold_is_the_one_that_names_the_training_images_best():
    confluence = np.array([0.2, 0.5, 0.7, 0.9, 0.3, 0.55, 0.65, 0.85])
    truth = np.array([ConfluenceClass.from_confluence(share) for share in confluence])
    shares = np.clip(confluence[:, np.newaxis] + np.linspace(-0.6, 0.6, len(baseline.THRESHOLDS)), 0, 1)
    chosen = baseline.fit_threshold(shares, truth)
    assert shares[:, chosen] == pytest.approx(confluence, abs=0.06)


def test_a_simulated_culture_is_measured_well():
    rng = np.random.default_rng(0)
    for share in (0.15, 0.5, 0.7, 0.9):
        made = render(share, Modality.SINGLE_STACK, rng, (240, 240), 0)
        best = np.abs(baseline.coverage_of(made.image) - share).min()
        assert best < 0.12


def test_against_a_model(make_scored):
    test = make_scored(n=120, skill=3.0)
    # One threshold reads the truth, all others nothing.
    shares = np.zeros((len(test), len(baseline.THRESHOLDS)))
    shares[:, 7] = np.array([0.1, 0.5, 0.7, 0.9])[test.truth - 1]
    fixed, fitted = baseline.baselines(shares, test.truth, shares, test)
    assert (fixed.name, fitted.name) == (baseline.FIXED_NAME, baseline.FITTED_NAME)
    assert fitted.threshold == baseline.THRESHOLDS[7]
    assert fitted.measured.value("accuracy") == 1
    assert fixed.measured.value("accuracy") == (test.truth == 1).mean()
    assert fixed.advantage.value == pytest.approx(test.right.mean() - (test.truth == 1).mean())
    assert fixed.advantage.low < fixed.advantage.value < fixed.advantage.high
    assert "does not beat" in baseline.verdict([fixed, fitted])
    assert "which is right for 100.0 %" in baseline.verdict([fixed, fitted])


def judged(make_scored, value, low, high):
    test = make_scored()
    shares = np.zeros((len(test), len(baseline.THRESHOLDS)))
    made = baseline.baselines(shares, test.truth, shares, test)[0]
    return msgspec.structs.replace(made, advantage=Figure(value, low, high))


@pytest.mark.parametrize(
    ("advantage", "words"),
    [
        ((0.12, 0.04, 0.2), "12.0 points better than a filter and no network"),
        ((0.03, -0.02, 0.08), "3.0 points better than .* cannot rule out chance"),
        ((0.03, None, None), "cannot rule out chance"),
        ((0.0, -0.1, 0.1), "does not beat a filter .* do not use it"),
        ((-0.2, -0.3, -0.1), "does not beat"),
    ],
)
def test_the_verdict_says_what_the_interval_allows(make_scored, advantage, words):
    assert re.search(words, baseline.verdict([judged(make_scored, *advantage)]))


def test_there_is_no_verdict_without_a_baseline():
    assert baseline.verdict([]) == ""


def hold(repository, name, image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    repository.store.ensure(blob_key(sha256), data, len(data))
    return ImageRecord(path=name, sha256=sha256, size=len(data))


def test_images_are_measured_once(tmp_path):
    repository = DataRepository(open_store(tmp_path / "store"))
    records = [hold(repository, f"{number}.png", picture(number / 4, seed=number)) for number in range(4)]
    first = baseline.coverage(repository, [*records, records[0]], tmp_path / "cache")
    assert first[:, baseline.FIXED] == pytest.approx([0, 0.25, 0.5, 0.75, 0], abs=0.06)
    for record in records:
        (tmp_path / "store" / blob_key(record.sha256)).unlink()
    again = baseline.coverage(repository, records[::-1], tmp_path / "cache")
    assert (again == first[3::-1]).all()
    with pytest.raises(IntegrityError):
        baseline.coverage(repository, records, tmp_path / "another")


def test_a_sample_of_training_images_is_even():
    records = [ImageRecord(path=f"{number:04}", sha256="", size=0) for number in range(1000)]
    sample = baseline.sampled(records)
    assert len(sample) == baseline.MOST_TRAINING_IMAGES
    assert sample[0] == records[0]
    assert sample[-1].path > "0990"
    assert baseline.sampled(records[:7]) == records[:7]
