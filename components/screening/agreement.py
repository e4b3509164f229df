"""Do a batch's labels contradict the champion far beyond its known error?

What is known are the champion's wrong answers in each vessel of its own test part. A vessel's share of wrong answers
is taken to be drawn from a beta distribution, of whose mean and spread those test vessels tell something: few of them
tell little. From what they leave possible, batches of the same vessels' sizes are drawn; the share of disagreement
that all but ``false_stop`` of them stay below, and a margin, is the bound.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import betaln

from components.evaluation.resampling import Floats, Integers, group_index

# What the mean and the spread may be; the spread is the correlation of two answers within one vessel.
_MEANS, _SPREADS = 200, 40
_MEAN_EDGE = 1e-3
_WIDEST = 0.95
# What is taken to be likely before anything is known, as Beta(1, …): a champion, which has passed its gate, errs
# seldom, and vessels differ, but are seldom all right or all wrong.
_MEAN_PRIOR, _SPREAD_PRIOR = 4, 6
_DRAWS, _MOST_DRAWN = 20_000, 4_000_000


class Tally(NamedTuple):
    """Answers counted by vessel (split group).

    Attributes:
        groups: Names, ascending.
        wrong: Answers that are not the label, shape (G,).
        asked: All answers, shape (G,).
    """

    groups: tuple[str, ...]
    wrong: Integers
    asked: Integers

    @property
    def share(self) -> float | None:
        """Share of the answers that are wrong; None without any."""
        return float(self.wrong.sum() / self.asked.sum()) if self.asked.sum() else None


class Agreement(NamedTuple):
    """How far a batch's labels contradict a model.

    Attributes:
        disagreement: Share of the batch's answers that are not the label; None where there is none.
        known: The same share on the model's own test part.
        bound: The disagreement up to which labels are trusted.
    """

    disagreement: float | None
    known: float
    bound: float

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the labels."""
        return self.disagreement is None or self.disagreement <= self.bound


def tally(groups: Sequence[str], wrong: Sequence[int], asked: Sequence[int]) -> Tally:
    """Count answers by group; the sequences name each image's, and groups without an answer are left out."""
    names = np.unique(np.asarray(groups)) if groups else np.array([], str)
    number = group_index(groups) if groups else np.array([], np.int64)
    counts = [np.bincount(number, each, len(names)).astype(np.int64) for each in (wrong, asked)]
    having = counts[1] > 0
    return Tally(tuple(names[having].tolist()), counts[0][having], counts[1][having])


def judge_labels(known: Tally, batch: Tally, *, false_stop: float, margin: float, seed: int = 0) -> Agreement:
    """Hold a batch's labels against a model's known error.

    Args:
        known: The model's answers in its own test part.
        batch: Its answers in the batch.
        false_stop: Share of batches, labelled as well as the test part, that may exceed the bound.
        margin: Disagreement that is borne beyond that.
        seed: Of the drawn batches.

    Raises:
        ValueError: if the test part holds no answer.
    """
    share = known.share
    if share is None:
        raise ValueError("nothing is known of the model's error: its test part is empty")
    if batch.share is None:
        return Agreement(None, share, 1.0)
    expected = float(np.quantile(_drawn_shares(known, batch.asked, seed), 1 - false_stop, method="higher"))
    return Agreement(batch.share, share, min(1.0, expected + margin))


def _drawn_shares(known: Tally, asked: Integers, seed: int) -> Floats:
    """Draw batches of vessels of these sizes, as the known vessels leave them possible; gives (B,) shares."""
    rng = np.random.default_rng(seed)
    count = int(np.clip(_MOST_DRAWN // len(asked), 2000, _DRAWS))
    first, second, weight = _possible(known)
    chosen = rng.choice(len(weight), count, p=weight)
    rates = rng.beta(first[chosen, np.newaxis], second[chosen, np.newaxis], (count, len(asked)))
    wrong: Floats = rng.binomial(asked, rates).sum(axis=1).astype(np.float64)
    share: Floats = wrong / asked.sum()
    return share


def _possible(known: Tally) -> tuple[Floats, Floats, Floats]:
    """Give beta distributions of the vessels' error, and how likely each is after the known vessels: (K,) each."""
    edge = np.log((1 - _MEAN_EDGE) / _MEAN_EDGE)
    mean = 1 / (1 + np.exp(-np.linspace(-edge, edge, _MEANS)))
    spread = (np.arange(_SPREADS) + 0.5) / _SPREADS * _WIDEST
    means, spreads = (each.ravel() for each in np.meshgrid(mean, spread))
    first, second = means * (1 / spreads - 1), (1 - means) * (1 / spreads - 1)
    # The grid of means is denser towards 0 and 1.
    score = np.log(means * (1 - means))
    score += (_MEAN_PRIOR - 1) * np.log1p(-means) + (_SPREAD_PRIOR - 1) * np.log1p(-spreads)
    # Many vessels have equal counts.
    counts, vessels = np.unique(np.stack([known.wrong, known.asked]), axis=1, return_counts=True)
    for (wrong, asked), times in zip(counts.T, vessels, strict=True):
        score += times * (betaln(first + wrong, second + asked - wrong) - betaln(first, second))
    weight = np.exp(score - score.max())
    likely: Floats = weight / weight.sum()
    return first, second, likely
