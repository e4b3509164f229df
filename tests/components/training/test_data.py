import numpy as np
import pytest
import torch

from components.imaging import Preprocessing
from components.training.data import Part, TrainingData, load_data


def part(labels: list[int]) -> Part:
    return Part.of(np.zeros((len(labels), 8, 8, 3), np.uint8), labels)


def test_class_weights_balance_the_classes_that_occur() -> None:
    data = TrainingData(part([1, 1, 1, 2, 4, 4]), part([1]))
    weights = data.class_weights
    counts = torch.tensor([3.0, 1.0, 0.0, 2.0])
    weighed = (weights * counts)[counts > 0]
    assert weighed.tolist() == pytest.approx([2.0, 2.0, 2.0])
    assert weights[2] == 1


def test_the_parts_of_a_split_are_read_in_the_order_of_their_labels(cultures) -> None:
    data = load_data(cultures.store, cultures.split_id, Preprocessing(size=32), cultures.home / "cache")
    assert (len(data.train), len(data.validation), data.image_size) == (24, 8, 32)
    assert data.train.images.dtype == torch.uint8
    for each in (data.train, data.validation):
        assert torch.bincount(each.labels).tolist() == [len(each) // 4] * 4
        brightness = each.images.float().mean(dim=(1, 2, 3))
        means = [float(brightness[each.labels == label].mean()) for label in range(4)]
        assert means == sorted(means), "labels belong to their images"
