"""What screening has found of a batch."""

from collections import Counter
from typing import Any, Literal, NamedTuple

import msgspec

from components.culture import ConfluenceClass
from components.datasets.manifest import ImageRecord
from components.novelty import Difference
from components.screening.agreement import Agreement
from components.screening.champion import Opinion
from components.screening.checks import Check
from components.screening.drift import DriftVerdict
from components.screening.leakage import Copy

Verdict = Literal["admitted", "stopped", "queued"]
Shares = dict[ConfluenceClass, float] | None


class Findings(NamedTuple):
    """What screening has found of a batch.

    Attributes:
        name: The batch's name.
        version: Data version of its images.
        champion: Version that was asked; None where there is none.
        images: Those of the version.
        fit: Those that are no copies.
        labelled: Number of those that have a label.
        copies: Those that are refused.
        opinions: The champion's, by path.
        agreement: How far it contradicts the labels.
        shares: Of the classes, in the batch and in its lineage.
        changes: Of the images' statistics, the largest first.
        detector: Whether the question is one of cells, not of classes.
    """

    name: str
    lineage: str
    version: str
    champion: str | None
    verdict: Verdict
    checks: tuple[Check, ...]
    images: int
    fit: tuple[ImageRecord, ...]
    labelled: int
    copies: tuple[Copy, ...]
    opinions: dict[str, Opinion]
    agreement: Agreement | None
    shares: tuple[Shares, Shares]
    changes: tuple[Difference, ...]
    drift: DriftVerdict | None
    detector: bool

    @property
    def refused(self) -> dict[str, int]:
        """Refused images by reason, the commonest first."""
        return {f"copy of a {kind}": count for kind, count in Counter(c.kind for c in self.copies).most_common()}

    @property
    def reasons(self) -> list[str]:
        """Sentences that say why it went as it did."""
        told = [_exceeded(check) for check in self.checks if not check.passed]
        if not self.fit:
            told.append(f"All {self.images} images are copies of images that the lineage holds: there is nothing new.")
        elif not self.labelled:
            what = "no image was searched for cells" if self.detector else "no image has a class"
            told.append(f"The batch waits for labels: {what}.")
        elif (waiting := len(self.fit) - self.labelled) and not told:
            told.append(f"{waiting} of {len(self.fit)} images wait for labels; the others are admitted.")
        for reason, count in self.refused.items():
            told.append(f"{count} images were refused: {reason}.")
        if self.drift and self.drift.drifted:
            told.append("The images look different from those before them.")
        return told

    def told(self) -> dict[str, Any]:
        """Give what machines read of it, JSON-able."""
        return {
            "verdict": self.verdict,
            "reasons": self.reasons,
            "checks": msgspec.to_builtins(self.checks),
            "drift": msgspec.to_builtins(self.drift),
            "refused": self.refused,
            "images": self.images,
            "labelled": self.labelled,
        }


def _exceeded(check: Check) -> str:
    assert check.figure is not None and check.bound is not None  # noqa: S101 - else it would have passed
    figure, bound = (f"{100 * each:.1f} %" if check.share else f"{each:.2f}" for each in (check.figure, check.bound))
    return f"The {check.name} is {figure}, above the bound of {bound} ({check.note})."
