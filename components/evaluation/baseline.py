"""The sanity baseline: how much of the picture has local contrast, read off in bands. No network, no training.

Cells are rough and the bare floor is smooth, so the share of pixels whose local contrast lies above a
threshold is an estimate of the confluence: PHANTAST (Jaccard et al., Biotechnology and Bioengineering,
2014) is the classical form of it; this is its core, without the correction of halos. A network that
does not beat it has learnt nothing that a filter does not know.

It comes twice: with a threshold fixed here, which knows nothing of the optics, and with the one of
a fixed list that does best on the training images, which is all that it ever takes from them.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image
from scipy import ndimage

from components.culture import BAND_EDGES, ConfluenceClass
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.metrics import Figure, Measured, measure, predicted_classes
from components.evaluation.remembered import remembered
from components.evaluation.resampling import RESAMPLES, Floats, Integers, paired_interval
from components.evaluation.scored import Scored
from components.imaging import Pixels, as_picture

# The longer side that pictures are shrunk to, and the standard deviation of the Gaussian window, in its pixels.
SIDE, WINDOW = 512, 2.0
# Standard deviation over mean of the grey levels in the window.
THRESHOLDS: Floats = np.geomspace(0.01, 0.25, 25)
FIXED = int(np.abs(THRESHOLDS - 0.05).argmin())
# How fast a band loses probability with the distance to it, in confluence; it orders scores, no more.
SOFTNESS = 0.1
# Training images that a threshold is chosen on; more do not change it.
MOST_TRAINING_IMAGES = 400

FIXED_NAME = "local contrast, fixed threshold"
FITTED_NAME = "local contrast, threshold of the training images"

_METHOD = "1"
_FILE_NAME = "coverage.sqlite"
_INSIDE = np.array([-np.inf, *BAND_EDGES[1:-1], np.inf])


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What the baseline is worth on the images that a model was scored on.

    Attributes:
        name: ``FIXED_NAME`` or ``FITTED_NAME``.
        threshold: Local contrast above which a pixel counts as covered.
        measured: Its figures.
        advantage: The model's accuracy less the baseline's, with its paired bootstrap interval.
    """

    name: str
    threshold: float
    measured: Measured
    advantage: Figure


def coverage_of(image: Pixels) -> Floats:
    """Give the covered share of a picture for each of ``THRESHOLDS``.

    Args:
        image: RGB, shape (height, width, 3), or a picture.
    """
    grey = as_picture(image).convert("L")
    if (longer := max(grey.size)) > SIDE:
        width, height = (max(1, round(side * SIDE / longer)) for side in grey.size)
        grey = grey.resize((width, height), Image.Resampling.BOX)
    levels = np.asarray(grey, np.float64)
    mean = ndimage.gaussian_filter(levels, WINDOW)
    variance = np.maximum(ndimage.gaussian_filter(levels * levels, WINDOW) - mean * mean, 0)
    contrast = np.sort((np.sqrt(variance) / np.maximum(mean, 1)).ravel())
    above: Floats = 1 - np.searchsorted(contrast, THRESHOLDS, side="right") / len(contrast)
    return above


def coverage(repository: DataRepository, records: Sequence[ImageRecord], cache: Path) -> Floats:
    """Give the covered shares of images, shape (N, thresholds); each image is measured once, ever.

    Raises:
        ImageError: if one cannot be decoded.
        IntegrityError: if the store has lost or altered one.
        StorageError: if the cache cannot be written.
    """
    path = cache / _FILE_NAME
    return remembered(repository, records, coverage_of, path, method=_METHOD, task="local contrast")


def fit_threshold(shares: Floats, truth: Integers) -> int:
    """Give the index of the threshold with the best mean recall of the classes on training images.

    Args:
        shares: Covered shares, shape (N, thresholds).
        truth: Classes 1 to 4, shape (N,).
    """
    bands = np.searchsorted(BAND_EDGES[1:-1], shares, side="right") + 1
    right, off = bands == truth[:, np.newaxis], np.abs(bands - truth[:, np.newaxis])
    present = np.unique(truth)
    recall = np.mean([right[truth == each].mean(axis=0) for each in present], axis=0)
    error = np.mean([off[truth == each].mean(axis=0) for each in present], axis=0)
    # Of equally good ones the one whose errors are the smallest.
    return int(np.lexsort((error, -recall.round(9)))[0])


def band_probabilities(shares: Floats) -> Floats:
    """Turn covered shares (N,) into scores of the four bands (N, 4) that sum to 1, the share's own band the highest."""
    inside = np.minimum(shares[:, np.newaxis] - _INSIDE[:-1], _INSIDE[1:] - shares[:, np.newaxis])
    # A share on an edge belongs to the band above.
    own = [ConfluenceClass.from_confluence(float(share)) - 1 for share in shares]
    inside[np.arange(len(shares)), own] += 1e-9
    powers = np.exp(np.minimum(inside, 0.5) / SOFTNESS)
    result: Floats = powers / powers.sum(axis=1, keepdims=True)
    return result


def baselines(
    train_shares: Floats, train_truth: Integers, test_shares: Floats, test: Scored, resamples: int = RESAMPLES
) -> tuple[Baseline, ...]:
    """Measure both baselines on the images that a model was scored on.

    Args:
        train_shares: Covered shares of training images, shape (M, thresholds).
        train_truth: Their classes.
        test_shares: Covered shares of the scored images, shape (N, thresholds).
        test: The model's answers for them.
        resamples: Bootstrap resamplings.
    """
    chosen = {FIXED_NAME: FIXED, FITTED_NAME: fit_threshold(train_shares, train_truth)}
    return tuple(_baseline(name, index, test_shares[:, index], test, resamples) for name, index in chosen.items())


def _baseline(name: str, index: int, shares: Floats, test: Scored, resamples: int) -> Baseline:
    scores = band_probabilities(shares)
    gain = test.right.astype(float) - (predicted_classes(scores) == test.truth)
    low, high = paired_interval(gain, test.groups, resamples, seed=0)
    return Baseline(
        name=name,
        threshold=float(THRESHOLDS[index]),
        measured=measure(test.truth, scores, test.groups, majority_class=test.majority_class, resamples=resamples),
        advantage=Figure(float(gain.mean()), low, high),
    )


def sampled(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Take at most ``MOST_TRAINING_IMAGES`` records, evenly over their order."""
    step = max(1.0, len(records) / MOST_TRAINING_IMAGES)
    return [records[int(place * step)] for place in range(min(len(records), MOST_TRAINING_IMAGES))]


def verdict(found: Sequence[Baseline]) -> str:
    """Say in a sentence whether the model beats the better one of the baselines; '' without any."""
    if not found:
        return ""
    best = max(found, key=lambda each: each.measured.value("accuracy") or 0.0)
    gain, low = best.advantage.value or 0.0, best.advantage.low
    share = f"{100 * (best.measured.value('accuracy') or 0.0):.1f} %"
    what = f"a filter and no network ({best.name}), which is right for {share}"
    if gain <= 0:
        return f"The network does not beat {what}: do not use it."
    if low is None or low <= 0:
        return f"The network is {100 * gain:.1f} points better than {what}, but these images cannot rule out chance."
    return f"The network is {100 * gain:.1f} points better than {what}."
