"""What a model's training images look like, so that it can abstain on others; see ``components.novelty``."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.metrics import Figure, figure_with_interval
from components.evaluation.remembered import remembered
from components.evaluation.resampling import RESAMPLES, Floats, draws, group_index
from components.novelty import MOST_REFERENCES, Familiar, describe
from components.settings import FALSE_ABSTAIN

# A change of what ``components.novelty.describe`` measures needs a new one.
_METHOD = "2"


class Familiarity(msgspec.Struct, frozen=True, kw_only=True):
    """How well the bound on unlike images holds for test images, which are like those of the training.

    Attributes:
        references: Training images that others are compared with.
        calibrated_on: Validation images that the bound was set on.
        promised: Share of such images that it may call foreign.
        n: Test images.
        foreign: Share of them that it calls foreign.
    """

    references: int
    calibrated_on: int
    promised: float
    n: int
    foreign: Figure


def familiarise(
    repository: DataRepository,
    parts: Mapping[str, Sequence[ImageRecord]],
    cache: Path,
    *,
    false_abstain: float = FALSE_ABSTAIN,
) -> tuple[Familiar, Familiarity]:
    """Learn what a model's images look like, and try it on the test images.

    Args:
        repository: Where the images lie.
        parts: The images by part: ``train``, ``validation`` and ``test``.
        cache: Local folder that remembers what was measured.
        false_abstain: Share of familiar images that may be held to be foreign.

    Raises:
        ImageError: naming an image that cannot be decoded.
        IntegrityError: if the store has lost or altered an image.
        StorageError: if the cache cannot be written.
    """
    train, validation = sampled(parts["train"]), sampled(parts["validation"])
    found = Familiar.fit(
        descriptions(repository, train, cache),
        descriptions(repository, validation, cache),
        false_abstain=false_abstain,
    )
    test = parts["test"]
    foreign = np.array([found.judge_description(each).novelty > 1 for each in descriptions(repository, test, cache)])
    return found, Familiarity(
        references=len(train),
        calibrated_on=found.calibrated_on,
        promised=found.rate,
        n=len(test),
        foreign=share(foreign.astype(float), [record.split_group for record in test]),
    )


def sampled(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Take at most ``MOST_REFERENCES`` records by their digests: by chance, and the same ones as the data grow."""
    return sorted(records, key=lambda record: record.sha256)[:MOST_REFERENCES]


def share(marks: Floats, groups: Sequence[str], resamples: int = RESAMPLES) -> Figure:
    """Give the mean of marks of 0 or 1, shape (N,), with its bootstrap interval over groups."""
    unit = group_index(groups)
    marked, images = np.bincount(unit, marks), np.bincount(unit).astype(float)
    spread = np.concatenate([drawn @ marked / (drawn @ images) for drawn in draws(len(images), resamples, seed=0)])
    return figure_with_interval(float(marks.mean()), spread, len(images))


def descriptions(repository: DataRepository, records: Sequence[ImageRecord], cache: Path) -> Floats:
    """Give what ``components.novelty.describe`` says of images, remembered by digest; shape (N, D)."""
    path = cache / "novelty.sqlite"
    return remembered(repository, records, describe, path, method=_METHOD, task="describe images")
