"""Pictures in the evidence: small copies of test images for people, and one image with a known answer."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from components.bundle import KnownAnswer
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.calibration import losses
from components.evaluation.evidence import Picture
from components.evaluation.scored import Scored
from components.evaluation.scoring import Network
from components.imaging import TEXTURE_SIDE, Preprocessing, decode, preprocess, probabilities
from components.novelty import Familiar

MOST_PICTURES = 48
PICTURE_SIDE = 192
_JPEG_QUALITY = 78
# Candidates for the known image that are tried before a wrong or unsure one is taken.
CANDIDATES = 16


def sheet(repository: DataRepository, records: Sequence[ImageRecord], test: Scored) -> tuple[Picture, ...]:
    """Make small copies of test images, the worst (by loss) first.

    Args:
        repository: Holds the images.
        records: The test images, in the order of ``test``.
        test: The model's answers for them.
    """
    worst = np.argsort(-losses(test.logits, test.truth, test.temperature), kind="stable")[:MOST_PICTURES]
    return tuple(Picture(int(row), data_uri(decode(repository.image(records[row])))) for row in worst)


def data_uri(image: NDArray[np.uint8], side: int = PICTURE_SIDE) -> str:
    """Give a small JPEG of an RGB image (H, W, 3), its longer side ``side`` pixels at most, as a data URI."""
    buffer = io.BytesIO()
    small = shrunk(image, side)
    if np.ptp(np.asarray(small), axis=2).max() == 0:
        small = small.convert("L")
    small.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def known_image(
    repository: DataRepository, records: Sequence[ImageRecord], test: Scored, network: Network, familiar: Familiar
) -> tuple[bytes, KnownAnswer]:
    """Choose a test image with a known answer, which a server must reproduce before it answers anybody.

    The surest right answer is taken, of an image that the model does not hold to be foreign if there is one. Its
    PNG is larger than the network's input, so that decoding, resizing and normalising are all put to the test; its
    answer is computed from that PNG.

    Returns:
        The PNG file's bytes, and what the model says of it.
    """
    surest = np.lexsort((-test.probabilities.max(axis=1), ~test.right))[:CANDIDATES]
    found: list[tuple[bool, bool, bytes, KnownAnswer]] = []
    for row in surest:
        png = known_picture(repository.image(records[row]), network.preprocessing)
        answer = _answer(png, test, network)
        right = int(np.argmax(answer.probabilities)) + 1 == test.truth[row]
        found.append((right, familiar.judge(decode(png)).novelty <= 1, png, answer))
        if all(found[-1][:2]):
            break
    # A model that is never right has a known answer all the same; the gate, not this, refuses it.
    *_, png, answer = max(found, key=lambda each: each[:2])
    return png, answer


def known_picture(data: bytes, prep: Preprocessing) -> bytes:
    """Give an image file as a PNG of at most twice the size of a network's input, or of what its texture is told at."""
    buffer = io.BytesIO()
    # Smaller, it would lose what tells a model's own images from foreign ones.
    shrunk(decode(data), max(2 * prep.size, TEXTURE_SIDE)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _answer(png: bytes, test: Scored, network: Network) -> KnownAnswer:
    logits = network.logits_of(preprocess(png, network.preprocessing)[np.newaxis])
    return KnownAnswer(probabilities=tuple(probabilities(logits, test.temperature)[0].tolist()))


def shrunk(image: NDArray[np.uint8], side: int) -> Image.Image:
    """Give an RGB image (H, W, 3) whose longer side has ``side`` pixels at most."""
    small = Image.fromarray(image)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small
