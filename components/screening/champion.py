"""The champion's opinion of a batch: what it says of each image, how unlike its own it looks, and its known error."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from components.boxes import Boxes
from components.bundle import EVIDENCE_FILE, MODEL_FILE, Bundle, DetectorBundle, read_any_bundle
from components.culture import ConfluenceClass
from components.datasets.arrays import load_arrays
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.detector.evidence import read_detector_evidence
from components.evaluation.detector.scored import BoxNetwork, box_scored, true_boxes
from components.evaluation.evidence import read_evidence
from components.evaluation.familiarity import descriptions
from components.evaluation.scoring import Network
from components.imaging import probabilities
from components.novelty import NOVELTY_FILE, Familiar
from components.screening.agreement import Tally, tally


class Opinion(NamedTuple):
    """What the champion says of one image.

    Attributes:
        suggested: The class that it names, '1' to '4', or the number of abnormal cells that it finds.
        confidence: Calibrated probability of the class, or the surest cell's score.
        novelty: Above 1 the image looks foreign to it; None in models from before they could tell.
        wrong: Answers that are not the label; for a detector, cells missed and boxes too many.
        asked: All answers that a label was given for.
    """

    suggested: str
    confidence: float
    novelty: float | None
    wrong: int
    asked: int

    @property
    def foreign(self) -> bool:
        """Whether the champion would abstain, so that its answer says nothing of the label."""
        return self.novelty is not None and self.novelty > 1


class Champion:
    """The model that serves.

    Args:
        folder: Its bundle.
        version: Its number in the registry.

    Raises:
        IntegrityError: if the bundle is altered or incomplete.
    """

    def __init__(self, folder: Path, version: str) -> None:
        self.bundle, self.digest = read_any_bundle(folder)
        self.folder, self.version = folder, version

    @property
    def finds_cells(self) -> bool:
        """Whether it is a detector of abnormal cells."""
        return isinstance(self.bundle, DetectorBundle)

    def known_error(self) -> Tally:
        """Count its answers in its own frozen test part, by vessel.

        Raises:
            IntegrityError: if its evidence is damaged.
        """
        path = self.folder / EVIDENCE_FILE
        if self.finds_cells:
            found = read_detector_evidence(path).answers
            wrong = [each.missed + each.false for each in found]
            return tally([each.group for each in found], wrong, [each.cells + each.false for each in found])
        answers = read_evidence(path).answers
        return tally(
            [each.group for each in answers], [each.predicted != each.truth for each in answers], [1] * len(answers)
        )

    def opinions(self, repository: DataRepository, records: Sequence[ImageRecord], cache: Path) -> list[Opinion]:
        """Ask it about images, at least one, in their order.

        Raises:
            ImageError: naming an image that cannot be decoded.
            IntegrityError: if the store has lost or altered an image.
        """
        novelty = self._novelty(repository, records, cache)
        if isinstance(self.bundle, DetectorBundle):
            return _cells(self.bundle, self.folder, repository, records, cache, novelty)
        return _classes(self.bundle, self.folder, repository, records, cache, novelty)

    def _novelty(self, repository: DataRepository, records: Sequence[ImageRecord], cache: Path) -> list[float | None]:
        if NOVELTY_FILE not in self.bundle.files:
            return [None] * len(records)
        familiar = Familiar.read(self.folder / NOVELTY_FILE)
        return [familiar.judge_description(each).novelty for each in descriptions(repository, records, cache)]


def _classes(
    bundle: Bundle,
    folder: Path,
    repository: DataRepository,
    records: Sequence[ImageRecord],
    cache: Path,
    novelty: Sequence[float | None],
) -> list[Opinion]:
    network = Network(folder / MODEL_FILE, bundle.preprocessing)
    logits = network.logits(load_arrays(repository, records, bundle.preprocessing, cache))
    shares = probabilities(logits, bundle.temperature)
    named = [ConfluenceClass(int(each) + 1) for each in shares.argmax(axis=1)]
    return [
        Opinion(
            suggested=str(int(name)),
            confidence=float(share.max()),
            novelty=how_new,
            wrong=int(record.confluence_class is not None and record.confluence_class != name),
            asked=int(record.confluence_class is not None),
        )
        for record, name, share, how_new in zip(records, named, shares, novelty, strict=True)
    ]


def _cells(
    bundle: DetectorBundle,
    folder: Path,
    repository: DataRepository,
    records: Sequence[ImageRecord],
    cache: Path,
    novelty: Sequence[float | None],
) -> list[Opinion]:
    network = BoxNetwork(folder / MODEL_FILE, bundle.preprocessing)
    found = network.find(load_arrays(repository, records, bundle.preprocessing, cache))
    truth = true_boxes(repository, records, bundle.positive, cache)
    scored = box_scored(
        folder.name, records, truth, found, positive=bundle.positive, threshold=bundle.min_score, iou=bundle.iou
    )
    right, given, true = scored.tallies.astype(int)
    surest = _surest(scored.given)
    return [
        Opinion(
            suggested=str(given[row]),
            confidence=surest[row],
            novelty=novelty[row],
            wrong=int(given[row] + true[row] - 2 * right[row]) if record.boxes is not None else 0,
            asked=int(given[row] + true[row] - right[row]) if record.boxes is not None else 0,
        )
        for row, record in enumerate(records)
    ]


def _surest(boxes: Boxes) -> list[float]:
    best = np.zeros(boxes.images)
    np.maximum.at(best, boxes.image, boxes.scores)
    return [float(each) for each in best]
