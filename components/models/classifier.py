"""The classifier of whole images: a backbone, a vector of 2,048, and two fully connected layers (PAPER: Method).

A backbone that gives a map of the cover instead is read by ``components.models.cover``.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from components.culture import N_CLASSES
from components.models.backbones import Backbone, backbone
from components.models.cover import Bands, CoveredShare
from components.models.weights import Weights, load_weights, load_whole

VECTOR, HIDDEN = 2048, 1024
# What the loss of the classifier counts, and that of an auxiliary one: 0.4, as is usual for InceptionV3.
HEAD_SHARES = (1.0, 0.4)


class AdaptiveVector(nn.Module):
    """Adaptive average pooling of features (N, C, h, w) to a vector (N, length), whatever C, h and w.

    The features are read as a table of C rows and h * w columns and pooled to ``length`` rows and one
    column, ``nn.AdaptiveAvgPool2d((length, 1))``. For C = length that is global average pooling; a
    network with fewer channels gets means over neighbouring ones. A finer grid in space, the other
    way to 2,048 numbers, would let the head learn where in the image cells lie, and confluence does
    not depend on that. Written out as a weighted gather, because ONNX has no adaptive pooling to
    sizes that do not divide.
    """

    def __init__(self, channels: int, length: int = VECTOR) -> None:
        super().__init__()
        rows = torch.arange(length)
        first, end = rows * channels // length, -(-(rows + 1) * channels // length)
        members = first + torch.arange(int((end - first).max()))[:, None]
        self.channels, self.length = channels, length
        self.register_buffer("index", members.clamp(max=channels - 1), persistent=False)
        self.register_buffer("weight", (members < end).float() / (end - first), persistent=False)
        self.index: Tensor
        self.weight: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Pool features (N, C, h, w) to (N, length)."""
        means = features.mean(dim=(2, 3))
        return means if self.channels == self.length else (means[:, self.index] * self.weight).sum(dim=1)


class Classifier(nn.Module):
    """Images (N, 3, S, S), normalised, to logits (N, 4) in the order of ``components.culture.CLASSES``.

    A pretrained backbone keeps its batch statistics in training (``frozen_norm``): those of a few
    small batches are worse, differ between processes that share a batch, and are not what the model
    will answer with.

    A backbone with an auxiliary branch gets a second, linear classifier on it. It is there for
    training alone: in evaluation mode it does not run, and so it is not exported.
    """

    def __init__(self, entry: Backbone, dropout: float, *, frozen_norm: bool) -> None:
        super().__init__()
        self.features, self.frozen_norm = entry.build(), frozen_norm
        self.pool, self.head = _reading(entry, dropout)
        self.auxiliary = nn.Linear(entry.auxiliary, N_CLASSES) if entry.auxiliary else None

    def train(self, mode: bool = True) -> Self:
        """Switch to training, where frozen batch statistics stay as they are, or back."""
        super().train(mode)
        if self.frozen_norm:
            for layer in self.features.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Give the logits of a batch; in training, those of an auxiliary classifier beside them."""
        features = self.features(images)
        if self.auxiliary is None or not self.training:
            return self.head(self.pool(features))  # type: ignore[no-any-return]  # calls of modules are untyped
        features, branch = features
        return self.head(self.pool(features)), self.auxiliary(branch)


def _reading(entry: Backbone, dropout: float) -> tuple[nn.Module, nn.Module]:
    if entry.reads_as == "cover":
        return CoveredShare(), Bands()
    layers = nn.Linear(VECTOR, HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(HIDDEN, N_CLASSES)
    return AdaptiveVector(entry.channels), nn.Sequential(*layers)


def build_classifier(name: str, dropout: float, weights: Weights, seed: int) -> Classifier:
    """Build a classifier ready to be trained.

    Args:
        name: A registered backbone.
        dropout: Probability with which a hidden unit is dropped in training.
        weights: First weights of the backbone; unless they are those of a whole network, the head starts at random.
        seed: Of the random start; equal seeds give equal networks.

    Raises:
        SettingsError: if the backbone is unknown, or the weights belong to another one.
    """
    entry = backbone(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(entry, dropout, frozen_norm=weights.pretrained)
    load_weights(model.features, name, weights)
    load_whole(model, name, weights)
    return model
