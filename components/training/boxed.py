"""The images and boxes that one fit of a detector works on, in memory."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.boxes import Boxes
from components.imaging import Preprocessing

if TYPE_CHECKING:
    from components.datasets.manifest import ImageRecord
    from components.datasets.versions import DataRepository

ABNORMAL, OTHER = 0, 1


@dataclass(frozen=True)
class BoxedPart:
    """The images of one part of a split, with their boxes.

    Attributes:
        images: uint8 (N, S, S, 3), as ``components.imaging.arrange`` gives them.
        boxes: For each image float32 (n, 5), n from 0: x1, y1, x2, y2 in pixels of the resized image, then
            ``ABNORMAL`` or ``OTHER``.
        truth: The abnormal cells alone, as fractions.
    """

    images: Tensor
    boxes: tuple[Tensor, ...]
    truth: Boxes

    @classmethod
    def of(cls, images: NDArray[np.uint8], boxes: Boxes, abnormal: NDArray[np.bool_]) -> "BoxedPart":
        """Take writable images without copying them, and boxes as fractions with a mask of those that are abnormal."""
        size, kind = images.shape[1], np.where(abnormal, ABNORMAL, OTHER)
        rows = np.column_stack([boxes.corners * size, kind]).astype(np.float32)
        each = tuple(torch.from_numpy(rows[boxes.on(number)].copy()) for number in range(boxes.images))
        return cls(torch.from_numpy(images), each, boxes.take(abnormal))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.images.shape[1])

    @property
    def counts(self) -> dict[str, int]:
        """Images, those that show an abnormal cell, and boxes of both kinds."""
        every = sum(len(each) for each in self.boxes)
        shown = int((self.truth.counts > 0).sum())
        return {
            "images": len(self),
            "with_abnormal": shown,
            "abnormal": len(self.truth),
            "other": every - len(self.truth),
        }

    @property
    def has_others(self) -> bool:
        """Whether there are boxes that are no abnormal cells."""
        return any(bool((each[:, 4] == OTHER).any()) for each in self.boxes)


def load_boxed_split(
    store_uri: str, split_id: str, prep: Preprocessing, positive: Collection[str], cache: Path
) -> tuple[BoxedPart, BoxedPart]:
    """Read the train and validation parts of a split; see ``load_boxed``.

    Raises:
        DataError: if a part is empty.
    """
    from components.datasets.splits import load_split
    from components.datasets.versions import DataRepository
    from components.errors import DataError
    from components.storage import open_store

    repository = DataRepository(open_store(store_uri, must_exist=True), cache=cache)
    records = load_split(repository, split_id)
    for name in ("train", "validation"):
        if not records[name]:
            raise DataError(f"split {split_id} has no {name} images; add images or change the split's shares")
    train, validation = (
        load_boxed(repository, records[name], prep, positive, cache) for name in ("train", "validation")
    )
    return train, validation


def load_boxed(
    repository: "DataRepository",
    records: "Sequence[ImageRecord]",
    prep: Preprocessing,
    positive: Collection[str],
    cache: Path,
) -> BoxedPart:
    """Read images and their boxes; what was decoded or measured before is taken from the cache.

    Args:
        repository: Where the images lie.
        records: The images, all of them searched for cells.
        prep: What the channels show, and the images' size.
        positive: Labels of the boxes that are abnormal cells.
        cache: Local folder of decoded images.

    Raises:
        ImageError: naming an image that cannot be decoded.
        IntegrityError: if the store has lost or altered an image.
    """
    from components.datasets.arrays import load_arrays
    from components.datasets.boxed import load_boxes

    boxes, abnormal = load_boxes(repository, records, positive, cache)
    return BoxedPart.of(load_arrays(repository, records, prep, cache), boxes, abnormal)
