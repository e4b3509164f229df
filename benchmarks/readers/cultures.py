"""Simulated cultures, and models of known quality that read them.

A culture has a true confluence, and a model reads it with an error. Part of the error is the vessel's and part the
image's; part is shared with every other model (an image that is hard for one is hard for all) and part is the model's
own. The larger the error, the fewer readings fall into the right band; that share over endless images is the model's
true quality.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import logit

from components.culture import BAND_EDGES
from components.evaluation.scored import Scored

# Of an error's variance: what all models share, and what the images of one vessel share.
SHARED, OF_VESSEL = 0.8, 0.5
# Vessels of the rarer source.
ELSEWHERE = 0.25

_BANDS = np.array(BAND_EDGES)
_EDGES = np.array([-np.inf, *logit(_BANDS[1:-1]), np.inf])


@dataclass(frozen=True)
class Cultures:
    """Images, and what makes each of them hard to read for any model.

    Attributes:
        confluence: True, as a logit, shape (N,).
        truth: Classes 1 to 4.
        vessel: Number of the vessel.
        elsewhere: Whether the vessel is of the rarer source.
        error: Standard normal: the part of an error that all models share.
    """

    confluence: np.ndarray
    truth: np.ndarray
    vessel: np.ndarray
    elsewhere: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Reader:
    """A model, by how it reads images.

    Attributes:
        spread: Standard deviation of its error, in logits of the confluence.
        spread_elsewhere: The same in images of the rarer source; None if it is the same.
        blind: Share of the overgrown images in which it takes the cells for the floor.
        guesses: Whether it has learnt nothing, as from shuffled labels.
    """

    spread: float
    spread_elsewhere: float | None = None
    blind: float = 0.0
    guesses: bool = False


def grow(vessels: int, images: int, rng: np.random.Generator) -> Cultures:
    """Give so many images each of so many vessels, all classes alike often."""
    vessel = np.repeat(np.arange(vessels), images)
    truth = 1 + rng.permutation(len(vessel)) % 4
    confluence = logit(np.clip(rng.uniform(_BANDS[truth - 1], _BANDS[truth]), 0.005, 0.995))
    elsewhere = rng.permutation(vessels) < ELSEWHERE * vessels
    return Cultures(confluence, truth, vessel, elsewhere[vessel], _error(vessel, rng))


def _error(vessel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    of_vessel, of_image = rng.normal(size=vessel.max() + 1)[vessel], rng.normal(size=len(vessel))
    return np.sqrt(OF_VESSEL) * of_vessel + np.sqrt(1 - OF_VESSEL) * of_image


def read(reader: Reader, cultures: Cultures, rng: np.random.Generator) -> np.ndarray:
    """Give a model's logits, shape (N, 4): as sure of each band as its error allows."""
    there = reader.spread if reader.spread_elsewhere is None else reader.spread_elsewhere
    spread = np.where(cultures.elsewhere, there, reader.spread)
    error = np.sqrt(SHARED) * cultures.error + np.sqrt(1 - SHARED) * _error(cultures.vessel, rng)
    reading = cultures.confluence + spread * error
    missed = (cultures.truth == 4) & (rng.random(len(reading)) < reader.blind)
    reading = np.where(missed, logit(rng.uniform(0.05, 0.55, len(reading))), reading)
    if reader.guesses:
        reading = rng.permutation(reading)
    below = stats.norm.cdf((_EDGES - reading[:, np.newaxis]) / spread[:, np.newaxis])
    logits: np.ndarray = np.log(np.diff(below, axis=1) + 1e-6)
    return logits


def answers(reader: Reader, model: str, cultures: Cultures, rng: np.random.Generator) -> Scored:
    """Give what the gate sees of a model."""
    rows = range(len(cultures.truth))
    return Scored(
        model=model,
        paths=tuple(f"{row}.png" for row in rows),
        sha256s=tuple(f"{row:064x}" for row in rows),
        groups=tuple(f"vessel {vessel}" for vessel in cultures.vessel),
        slices={"source": tuple("B" if there else "A" for there in cultures.elsewhere)},
        truth=cultures.truth,
        logits=read(reader, cultures, rng),
        temperature=1.0,
        majority_class=1,
    )


class Ruler:
    """Knows how large an error makes for which true accuracy."""

    def __init__(self, images: int = 200_000) -> None:
        cultures = grow(images // 4, 4, np.random.default_rng(0))
        self._spreads = np.geomspace(0.005, 1.5, 40)
        right = [
            read(Reader(each), cultures, np.random.default_rng(1)).argmax(axis=1) + 1 == cultures.truth
            for each in self._spreads
        ]
        self._errors = 1 - np.mean(right, axis=1)

    def spread(self, accuracy: float) -> float:
        """Give the spread of a model of this accuracy."""
        return float(np.interp(1 - accuracy, self._errors, self._spreads))

    def reader(self, accuracy: float, elsewhere: float | None = None, blind: float = 0.0) -> Reader:
        """Give a model of this accuracy in most images, and of another one in those of the rarer source."""
        there = None if elsewhere is None else self.spread(elsewhere)
        return Reader(self.spread(accuracy), there, blind)
