"""Calibration: making a probability of 0.8 mean right in 8 of 10 cases, and knowing when to abstain.

Everything here is fitted on the validation part; the test part only tells how well it carries over.
"""

import msgspec
import numpy as np
from scipy import optimize

from components.evaluation.metrics import predicted_classes
from components.evaluation.resampling import Floats, Integers
from components.imaging import probabilities

TEMPERATURES = (0.1, 10.0)
BINS = 10

# The abstention rule; ABSTENTION_RULE tells it to people.
TARGET_ACCURACY = 0.95
LEAST_THRESHOLD = 0.5
MOST_SILENCED = 0.2
ABSTENTION_RULE = (
    f"the lowest confidence, from {LEAST_THRESHOLD:g} up, above which {100 * TARGET_ACCURACY:g} % of the answers on "
    f"the validation images are right; lowered where it would silence more than {100 * MOST_SILENCED:g} % of them"
)


class Bin(msgspec.Struct, frozen=True):
    """Answers of about the same confidence.

    Attributes:
        low: Lower bound of the confidence, exclusive (but 0 belongs to the first bin).
        high: Upper bound, inclusive.
        n: Images.
        confidence: Mean highest probability; None without images.
        accuracy: Share that is right; None without images.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What calibration did; 'before' is at temperature 1.

    Attributes:
        temperature: What logits are divided by.
        min_confidence: Answers below it abstain.
        rule: How ``min_confidence`` was chosen.
        n: Validation images.
        nll_before: Negative log likelihood an image, in nats, on validation.
        ece_before: Expected calibration error on validation.
    """

    temperature: float
    min_confidence: float
    rule: str
    n: int
    nll_before: float
    nll_after: float
    ece_before: float
    ece_after: float


def calibrate(logits: Floats, truth: Integers) -> Calibration:
    """Fit the temperature and the abstention threshold on validation images.

    Args:
        logits: Shape (N, 4).
        truth: Classes 1 to 4, shape (N,).

    Raises:
        ValueError: if there are no images.
    """
    if len(truth) == 0:
        raise ValueError("there are no validation images to calibrate on")
    temperature = fit_temperature(logits, truth)
    before, after = probabilities(logits), probabilities(logits, temperature)
    return Calibration(
        temperature=temperature,
        min_confidence=choose_threshold(after, truth),
        rule=ABSTENTION_RULE,
        n=len(truth),
        nll_before=negative_log_likelihood(logits, truth),
        nll_after=negative_log_likelihood(logits, truth, temperature),
        ece_before=calibration_error(before, truth),
        ece_after=calibration_error(after, truth),
    )


def fit_temperature(logits: Floats, truth: Integers) -> float:
    """Give the temperature that makes the labels likeliest.

    A weak prior (log T normal with mean 0 and SD 1, worth less than one image) keeps a handful of
    images, all answered rightly, from driving it to zero and every probability to 1.
    """

    def cost(log_temperature: float) -> float:
        loss = negative_log_likelihood(logits, truth, np.exp(log_temperature))
        return loss * len(truth) + log_temperature**2 / 2

    low, high = np.log(TEMPERATURES)
    return float(np.exp(optimize.minimize_scalar(cost, bounds=(low, high), method="bounded").x))


def negative_log_likelihood(logits: Floats, truth: Integers, temperature: float = 1.0) -> float:
    """Give the mean negative log likelihood of the labels, in nats an image."""
    return float(losses(logits, truth, temperature).mean())


def losses(logits: Floats, truth: Integers, temperature: float = 1.0) -> Floats:
    """Give each image's negative log likelihood, in nats, shape (N,); finite however sure the model is."""
    scaled = np.asarray(logits, np.float64) / temperature
    top = scaled.max(axis=1)
    norm = top + np.log(np.exp(scaled - top[:, np.newaxis]).sum(axis=1))
    result: Floats = norm - scaled[np.arange(len(truth)), truth - 1]
    return result


def choose_threshold(calibrated: Floats, truth: Integers) -> float:
    """Give the confidence below which the model abstains; see ``ABSTENTION_RULE``.

    Args:
        calibrated: Probabilities of validation images, shape (N, 4).
        truth: Classes 1 to 4, shape (N,).
    """
    confidence = calibrated.max(axis=1)
    right = predicted_classes(calibrated) == truth
    order = np.argsort(-confidence, kind="stable")
    accuracy = right[order].cumsum() / np.arange(1, len(truth) + 1)
    # Among equal confidences only the last counts: a threshold cannot tell them apart.
    last = np.append(np.diff(confidence[order]) != 0, True)
    reaching = np.flatnonzero(last & (accuracy >= TARGET_ACCURACY))
    wanted = confidence[order][reaching[-1]] if len(reaching) else 1.0
    silenced = int(MOST_SILENCED * len(truth))
    return float(min(max(wanted, LEAST_THRESHOLD), np.sort(confidence)[silenced]))


def reliability(calibrated: Floats, truth: Integers) -> list[Bin]:
    """Sort answers by confidence into ten equal bins."""
    confidence, right = calibrated.max(axis=1), predicted_classes(calibrated) == truth
    which = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return [_bin(index, confidence[which == index], right[which == index]) for index in range(BINS)]


def _bin(index: int, confidence: Floats, right: np.typing.NDArray[np.bool_]) -> Bin:
    n = len(right)
    means = (float(confidence.mean()), float(right.mean())) if n else (None, None)
    return Bin(index / BINS, (index + 1) / BINS, n, *means)


def calibration_error(calibrated: Floats, truth: Integers) -> float:
    """Give the expected calibration error: the mean gap between confidence and accuracy over ten bins."""
    gaps = [
        abs(filled.confidence - filled.accuracy) * filled.n
        for filled in reliability(calibrated, truth)
        if filled.confidence is not None and filled.accuracy is not None
    ]
    return sum(gaps) / len(truth)
