"""What a batch shows beside what its lineage shows: shares of the classes, and statistics of the pictures."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from components.culture import CLASSES, ConfluenceClass
from components.datasets.manifest import ImageRecord
from components.evaluation.resampling import Floats
from components.novelty import Difference, in_words, standardised
from components.screening.checks import Check, at_most

CLASS_BALANCE, STATISTICS = "change of the classes' shares", "change of the images' statistics"
_NAMED = 3


def class_shares(records: Sequence[ImageRecord]) -> dict[ConfluenceClass, float] | None:
    """Give the share of each class among the labelled images; None without any."""
    counts = Counter(record.confluence_class for record in records if record.confluence_class is not None)
    total = sum(counts.values())
    return {each: counts[each] / total for each in CLASSES} if total else None


def check_balance(batch: Sequence[ImageRecord], parent: Sequence[ImageRecord], most: float | None) -> Check:
    """Tell how much of the images would have to change class for the shares to be the lineage's.

    Args:
        batch: The new images.
        parent: The lineage's.
        most: Change above which the batch is stopped; None stops nothing.
    """
    mine, theirs = class_shares(batch), class_shares(parent)
    if mine is None or theirs is None:
        lacking = "the batch" if mine is None else "the lineage"
        return at_most(CLASS_BALANCE, None, most, f"{lacking} has no image with a class")
    change = sum(abs(mine[each] - theirs[each]) for each in CLASSES) / 2
    absent = [str(int(each)) for each in CLASSES if theirs[each] and not mine[each]]
    note = f"no image of class {', '.join(absent)}" if absent else "all classes of the lineage are there"
    return at_most(CLASS_BALANCE, change, most, note)


def changes(batch: Floats, parent: Floats) -> list[Difference]:
    """Give how the mean statistics, from descriptions (N, D), differ from the lineage's, the most changed first."""
    sizes = standardised(batch.mean(axis=0), parent)
    order = np.argsort(-np.abs(sizes), kind="stable")
    return [in_words(int(trait), float(sizes[trait])) for trait in order]


def check_statistics(found: Sequence[Difference] | None, most: float | None) -> Check:
    """Tell the statistic that has changed most, in standard deviations of the lineage's images.

    Args:
        found: What ``changes`` gives; None where there is nothing to compare with.
        most: Change above which the batch is stopped; None stops nothing.
    """
    if not found:
        return at_most(STATISTICS, None, most, "the lineage holds no image to compare with", share=False)
    named = ", ".join(f"{each.words} ({each.size:+.1f} SD)" for each in found[:_NAMED])
    return at_most(STATISTICS, abs(found[0].size), most, f"images are {named}", share=False)
