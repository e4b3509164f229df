"""The images that one fit works on, in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from components.culture import N_CLASSES
from components.errors import DataError
from components.imaging import Preprocessing


@dataclass(frozen=True)
class Part:
    """The images of one part of a split.

    Attributes:
        images: uint8 (N, S, S, 3), as ``components.imaging.arrange`` gives them.
        labels: int64 (N,), 0 to 3, in the order of ``components.culture.CLASSES``.
    """

    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, images: NDArray[np.uint8], labels: list[int]) -> "Part":
        """Take writable arrays without copying them; ``labels`` are classes from 1."""
        return cls(torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64) - 1)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TrainingData:
    """The two parts that a fit may see; the test part is not among them."""

    train: Part
    validation: Part

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return int(self.train.images.shape[1])

    @property
    def class_weights(self) -> Tensor:
        """Balanced weights (4,): inverse to each class's share of the train part, 1 for a class not in it."""
        counts = torch.bincount(self.train.labels, minlength=N_CLASSES).float()
        present = counts > 0
        return torch.where(present, counts.sum() / (present.sum() * counts.clamp(min=1)), torch.ones(N_CLASSES))


def load_data(store_uri: str, split_id: str, prep: Preprocessing, cache: Path) -> TrainingData:
    """Read the train and validation parts of a split.

    Args:
        store_uri: The object store that holds the split and its images.
        split_id: As ``components.datasets.splits.make_split`` gave it.
        prep: What the images' channels show, and their size.
        cache: Folder that keeps resized images from one step to the next.

    Raises:
        DataError: if a part is empty.
    """
    from components.datasets.arrays import load_arrays
    from components.datasets.splits import load_split
    from components.datasets.versions import DataRepository
    from components.storage import open_store

    repository = DataRepository(open_store(store_uri, must_exist=True), cache=cache)
    records = load_split(repository, split_id)

    def part(name: str) -> Part:
        if not records[name]:
            raise DataError(f"split {split_id} has no {name} images; add labelled images or change the split's shares")
        images = load_arrays(repository, records[name], prep, cache)
        return Part.of(images, [int(record.confluence_class or 0) for record in records[name]])

    return TrainingData(part("train"), part("validation"))
