"""InceptionV3's features, with the auxiliary branch that helps its middle layers to learn (Szegedy et al., 2015)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import inception_v3

from components.models.initialisation import keep_size

CHANNELS, AUXILIARY_LENGTH = 2048, 768
_AUXILIARY = "AuxLogits"
_LEFT_OUT = ("avgpool", "dropout", "fc")
_SMALLEST_MIDDLE = 17  # side of the middle features of a published input, 299 pixels


class InceptionFeatures(nn.Module):
    """Images (N, 3, S, S), S from 75, to features (N, 2048, h, w).

    In training it gives the vector (N, 768) that an auxiliary classifier reads as well. Layers have
    the names of torchvision's network. Its ``transform_input`` is left out: it turns ImageNet's mean
    and deviation into 0.5 and 0.5, which ``components.imaging`` applies at once.
    """

    def __init__(self) -> None:
        super().__init__()
        network = keep_size(inception_v3(init_weights=False, aux_logits=True))
        for name, part in network.named_children():
            if name not in _LEFT_OUT:
                self.add_module(name, part)
        del self.get_submodule(_AUXILIARY).fc

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Give the features; in training, the auxiliary vector too."""
        vector, values = None, images
        for name, part in self.named_children():
            if name != _AUXILIARY:
                values = part(values)
            elif self.training:
                vector = self._auxiliary(values)
        return values if vector is None else (values, vector)

    def _auxiliary(self, middle: Tensor) -> Tensor:
        branch: Any = self.get_submodule(_AUXILIARY)
        # The branch wants 5 by 5 places or more, which its own pooling leaves of 17 by 17.
        large = min(middle.shape[2:]) >= _SMALLEST_MIDDLE
        pooled = functional.avg_pool2d(middle, 5, 3) if large else functional.adaptive_avg_pool2d(middle, 5)
        return torch.flatten(functional.adaptive_avg_pool2d(branch.conv1(branch.conv0(pooled)), 1), 1)
