"""Pictures of test images with their true and found boxes, and one image with a known answer."""

from collections.abc import Sequence

import numpy as np

from components.boxes import match
from components.bundle import KnownBoxes
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.detector.evidence import Mark, Picture
from components.evaluation.detector.scored import BoxNetwork, BoxScored
from components.evaluation.pictures import CANDIDATES, data_uri, known_picture, shrunk
from components.evaluation.resampling import Floats
from components.imaging import decode, preprocess
from components.novelty import Familiar

MOST_PICTURES = 36
PICTURE_SIDE = 320
# Boxes of the known image that a server must find again.
_KNOWN_BOXES = 5


def marked_sheet(repository: DataRepository, records: Sequence[ImageRecord], test: BoxScored) -> tuple[Picture, ...]:
    """Make small copies of test images with their boxes, those with most errors first.

    Args:
        repository: Holds the images.
        records: The test images, in the order of ``test``.
        test: What the detector found in them.
    """
    right, given, truths = test.tallies
    errors = (truths - right) + (given - right)
    # Of images without an error, those with most cells show most.
    worst = np.lexsort((-truths, -errors))[:MOST_PICTURES]
    return tuple(_picture(repository, records[row], int(row), test) for row in worst)


def _picture(repository: DataRepository, record: ImageRecord, row: int, test: BoxScored) -> Picture:
    image = decode(repository.image(record))
    width, height = shrunk(image, PICTURE_SIDE).size
    return Picture(row, data_uri(image, PICTURE_SIDE), width, height, marks(test.of_images(np.array([row]))))


def marks(one: BoxScored) -> tuple[Mark, ...]:
    """Give the boxes of one image: the true ones first, then those that the detector gives."""
    given = one.given
    partner = match(one.truth, given, one.iou)
    found = set(partner[partner >= 0].tolist())
    true = [
        Mark("found" if row in found else "missed", _corners(corners)) for row, corners in enumerate(one.truth.corners)
    ]
    own = [
        Mark("false" if of < 0 else "right", _corners(corners), round(float(score), 4))
        for corners, score, of in zip(given.corners, given.scores, partner, strict=True)
    ]
    return (*true, *own)


def _corners(corners: Floats) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = corners.round(5).tolist()
    return x1, y1, x2, y2


def known_boxes(
    repository: DataRepository,
    records: Sequence[ImageRecord],
    test: BoxScored,
    network: BoxNetwork,
    familiar: Familiar,
) -> tuple[bytes, KnownBoxes]:
    """Choose a test image with a known answer, which a server must reproduce before it answers anybody.

    The image with the surest box is taken, of those that the detector does not hold to be foreign if there is one.
    Its PNG is up to twice the size of the network's input; its answer is computed from that PNG.

    Returns:
        The PNG file's bytes, and what the detector finds in it.
    """
    by_score = test.found.image[np.argsort(-test.found.scores, kind="stable")].tolist()
    surest = list(dict.fromkeys(by_score))[:CANDIDATES] or [0]

    def picture(row: int) -> bytes:
        return known_picture(repository.image(records[row]), network.preprocessing)

    fit = (png for png in map(picture, surest) if familiar.judge(decode(png)).novelty <= 1)
    png = next(fit, None) or picture(surest[0])
    found = network.find_in(preprocess(png, network.preprocessing)[np.newaxis])
    best = np.argsort(-found.scores, kind="stable")[:_KNOWN_BOXES]
    corners = tuple(_corners(each) for each in found.corners[best])
    return png, KnownBoxes(boxes=corners, scores=tuple(found.scores[best].round(5).tolist()))
