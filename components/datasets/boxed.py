"""The true boxes of images, as fractions of each image."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.boxes import Boxes
from components.datasets.manifest import ImageRecord
from components.datasets.measurement import measured
from components.datasets.versions import DataRepository
from components.errors import DataError, ImageError
from components.imaging import MAX_PIXELS


def image_sizes(repository: DataRepository, records: Sequence[ImageRecord], cache: Path | None) -> NDArray[np.float64]:
    """Give width and height of images, in pixels, shape (N, 2); what validation has measured is not read again.

    Raises:
        ImageError: naming an image that cannot be decoded.
    """
    sizes = np.empty((len(records), 2))
    for row, (record, figures) in enumerate(measured(repository, records, MAX_PIXELS, cache)):
        if figures.problem:
            raise ImageError(figures.problem, f"{record.path}: {figures.message}")
        sizes[row] = figures.width, figures.height
    return sizes


def load_boxes(
    repository: DataRepository, records: Sequence[ImageRecord], positive: Collection[str], cache: Path | None
) -> tuple[Boxes, NDArray[np.bool_]]:
    """Give every true box of images, and which of them are abnormal cells.

    Args:
        repository: Where the images lie.
        records: The images.
        positive: Labels of the boxes that are abnormal cells.
        cache: Folder that remembers the images' sizes; None for none.

    Returns:
        The boxes, cut at the images' edges and in the order of the records, and a mask over them.

    Raises:
        ImageError: naming an image that cannot be decoded.
    """
    sizes = image_sizes(repository, records, cache)
    corners, abnormal = [], []
    for record, size in zip(records, sizes, strict=True):
        given = record.boxes or ()
        pixels = np.array([(box.x1, box.y1, box.x2, box.y2) for box in given]).reshape(-1, 4)
        corners.append(np.clip(pixels / np.tile(size, 2), 0, 1))
        abnormal += [box.label in positive for box in given]
    return Boxes.of(corners), np.array(abnormal, bool)


def is_abnormal(record: ImageRecord, positive: Collection[str]) -> bool:
    """Whether an image shows an abnormal cell."""
    return any(box.label in positive for box in record.boxes or ())


def check_labels(records: Sequence[ImageRecord], positive: Collection[str]) -> None:
    """Check that there is something to learn from.

    Raises:
        DataError: if no image was searched for cells, or no box has one of the labels; it names those there are.
    """
    if not any(record.boxes is not None for record in records):
        raise DataError(
            "no image has boxes, nor a row that says that it has none; add Pascal VOC files or a boxes.csv "
            "(columns file,x1,y1,x2,y2,class)"
        )
    labels = Counter(box.label for record in records for box in record.boxes or ())
    if not any(label in labels for label in positive):
        there = ", ".join(f"'{label}' ({count})" for label, count in labels.most_common()) or "none at all"
        wanted = ", ".join(f"'{label}'" for label in positive)
        raise DataError(f"no box is labelled {wanted}; there are {there}: name the abnormal ones with --positive")
