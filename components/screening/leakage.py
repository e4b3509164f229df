"""Copies: images of a batch that the lineage holds already, maybe encoded, sized, turned or mirrored anew.

A copy of a test image in the training part would flatter every later model, and a copy of a training image in the
test part likewise. Files are compared by their digests; pictures by their pattern of light and dark at a 32nd of the
side, without the uneven light that all pictures of one microscope share.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from components.culture import ABNORMAL_MODEL
from components.datasets.frozen import read_frozen
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.remembered import remembered
from components.evaluation.resampling import Floats, Integers

Kind = Literal["test image", "known image"]

SIDE = 32
# Places of the uneven light that is taken off.
_LIGHT_SIDE = 8
# A change of what is measured needs a new one.
_METHOD = "1"
_CHUNK = 2048
# Below this norm (grey levels times pixels) there is no pattern, only rounding.
_FAINTEST = 4.0


class Copy(NamedTuple):
    """An image of a batch that is a copy of one of the lineage's.

    Attributes:
        path: Of the batch's image.
        of: Path of the lineage's.
        kind: What the lineage's image is for.
        likeness: 1 for the same bytes, else the correlation of the patterns.
        sha256: Of the batch's image; ``of_sha256`` of the lineage's.
    """

    path: str
    of: str
    kind: Kind
    likeness: float
    sha256: str
    of_sha256: str


def find_copies(
    repository: DataRepository,
    batch: Sequence[ImageRecord],
    parent: Sequence[ImageRecord],
    lineage: str,
    similarity: float,
    cache: Path,
) -> list[Copy]:
    """Find the images of a batch that are copies of the lineage's, ascending by path.

    An image that the lineage holds under the same path is no copy but the image itself, come again.

    Args:
        repository: Where the images lie.
        batch: The new images.
        parent: The lineage's present images.
        lineage: Whose test parts are kept for life.
        similarity: Likeness, up to 1, from which on a picture is a copy.
        cache: Local folder that remembers patterns.

    Raises:
        ImageError: naming an image that cannot be decoded.
        IntegrityError: if the store has lost or altered an image.
    """
    tested = test_images(repository, lineage)
    known = {record.path: record.sha256 for record in parent}
    fresh = [record for record in batch if known.get(record.path) != record.sha256]
    # An image that was replaced by its own path's new one does not count, unless it tests models.
    others = {record.path for record in fresh if record.path in known and known[record.path] not in tested}
    kept = [record for record in parent if record.path not in others]
    found = {copy.path: copy for copy in _same_pattern(repository, fresh, kept, tested, similarity, cache)}
    found |= {copy.path: copy for copy in _same_bytes(fresh, kept, tested)}
    return [found[path] for path in sorted(found)]


def test_images(repository: DataRepository, lineage: str) -> dict[str, str]:
    """Give the paths of all images that test models of a lineage, for either task, by SHA-256."""
    parts = (read_frozen(repository.store, name)[0] for name in (lineage, f"{lineage}-{ABNORMAL_MODEL}"))
    return {image.sha256: image.path for part in parts for image in part.test}


def pattern(picture: Image.Image) -> Floats:
    """Describe a picture by its pattern of light and dark, shape (``SIDE`` ** 2,), of norm 1; 0 if it has none."""
    # Bilinear shrinks a mirrored picture to the mirrored result; a box does not.
    small = picture.convert("L").convert("F").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    light = small.resize((_LIGHT_SIDE, _LIGHT_SIDE), Image.Resampling.BILINEAR).resize((SIDE, SIDE))
    levels: Floats = (np.asarray(small, np.float64) - np.asarray(light, np.float64)).ravel()
    levels -= levels.mean()
    norm = float(np.linalg.norm(levels))
    return levels / norm if norm > _FAINTEST else np.zeros_like(levels)


def likenesses(patterns: Floats, others: Floats) -> tuple[Floats, Integers]:
    """Give, for each pattern (N, D), its greatest likeness to others (M, D), however turned, and the other's row."""
    best, whose = np.full(len(patterns), -1.0), np.zeros(len(patterns), np.int64)
    for turned in _orientations(patterns):
        alike = turned @ others.T
        nearest = alike.argmax(axis=1)
        value = alike[np.arange(len(alike)), nearest]
        better = value > best
        best[better], whose[better] = value[better], nearest[better]
    return best, whose


def _same_bytes(fresh: Sequence[ImageRecord], parent: Sequence[ImageRecord], tested: dict[str, str]) -> Iterator[Copy]:
    known = {record.sha256: record.path for record in reversed(parent)}
    for record in fresh:
        if (path := tested.get(record.sha256)) is not None:
            yield Copy(record.path, path, "test image", 1.0, record.sha256, record.sha256)
        elif (path := known.get(record.sha256)) is not None:
            yield Copy(record.path, path, "known image", 1.0, record.sha256, record.sha256)


def _same_pattern(
    repository: DataRepository,
    fresh: Sequence[ImageRecord],
    parent: Sequence[ImageRecord],
    tested: dict[str, str],
    similarity: float,
    cache: Path,
) -> Iterator[Copy]:
    # Test images first: of several that an image is like, those matter most.
    for kind in ("test image", "known image"):
        those = [record for record in parent if (record.sha256 in tested) == (kind == "test image")]
        if not those or not fresh:
            continue
        best, whose = _nearest(repository, fresh, those, cache)
        rows = np.flatnonzero(best >= similarity)
        for row in rows.tolist():
            mine, theirs = fresh[row], those[whose[row]]
            yield Copy(mine.path, theirs.path, kind, min(1.0, float(best[row])), mine.sha256, theirs.sha256)
        copied = set(rows.tolist())
        fresh = [record for row, record in enumerate(fresh) if row not in copied]


def _nearest(
    repository: DataRepository, fresh: Sequence[ImageRecord], those: Sequence[ImageRecord], cache: Path
) -> tuple[Floats, Integers]:
    """Give the greatest likeness of each image to known ones, and the known one's number, with few of those in hand."""
    mine = patterns_of(repository, fresh, cache)
    best, whose = np.full(len(mine), -1.0), np.zeros(len(mine), np.int64)
    for start in range(0, len(those), _CHUNK):
        value, row = likenesses(mine, patterns_of(repository, those[start : start + _CHUNK], cache))
        better = value > best
        best[better], whose[better] = value[better], start + row[better]
    return best, whose


def patterns_of(repository: DataRepository, records: Sequence[ImageRecord], cache: Path) -> Floats:
    """Give the patterns of images, remembered by digest, shape (N, ``SIDE`` ** 2)."""
    return remembered(repository, records, pattern, cache / "copies.sqlite", method=_METHOD, task="look for copies")


def _orientations(patterns: Floats) -> Iterator[Floats]:
    squares = patterns.reshape(-1, SIDE, SIDE)
    for mirrored in (squares, squares[:, :, ::-1]):
        for quarters in range(4):
            yield np.rot90(mirrored, quarters, axes=(1, 2)).reshape(len(patterns), -1)
