"""A backbone's stages as one network, whose features a detector sees at several scales."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.models.backbones import backbone
from components.models.pyramid import Layers, pyramid
from components.models.weights import Weights, load_weights


class Trunk(nn.Module):
    """Images (N, 3, S, S) to the features at the end of each stage, the finest first."""

    def __init__(self, stages: Sequence[Layers]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(*layers) for layers in stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Give features (N, C, S / stride, S / stride) for each of ``STRIDES``."""
        features = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return features


def build_trunk(name: str, weights: Weights, seed: int) -> Trunk:
    """Build a backbone's stages, filled with weights; equal seeds give equal random starts.

    Raises:
        SettingsError: if the backbone has no pyramid, or the weights belong to another one.
    """
    entry = pyramid(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = backbone(name).build()
    load_weights(network, name, weights)
    return Trunk(entry.cut(network))
