"""The Vision Transformer ViT-B/32 as a feature extractor (Dosovitskiy et al., 2021), for images of any size."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vit_b_32

CHANNELS = 768
PATCH = 32


class VisionTransformerFeatures(nn.Module):
    """Images (N, 3, S, S), S from 32, to the patches' last embeddings (N, 768, h, w).

    A side that is no multiple of a patch's is filled up by reflection. The position embeddings, 7 by 7
    as published for 224 pixels, are interpolated to the number of patches. The class token takes part,
    but is not read: the patches' mean is pooled as the features of the other backbones are. Parameters
    have the names of torchvision's network.
    """

    def __init__(self) -> None:
        super().__init__()
        network = vit_b_32()
        self.conv_proj, self.class_token, self.encoder = network.conv_proj, network.class_token, network.encoder

    def forward(self, images: Tensor) -> Tensor:
        """Give the features."""
        patches = self.conv_proj(_filled(images))
        height, width = patches.shape[2:]
        tokens = torch.cat(
            [self.class_token.expand(images.shape[0], -1, -1), patches.flatten(2).transpose(1, 2)], dim=1
        )
        tokens = self.encoder.dropout(tokens + self._positions(height, width))
        tokens = self.encoder.ln(self.encoder.layers(tokens))
        features: Tensor = tokens[:, 1:].transpose(1, 2).reshape(-1, CHANNELS, height, width)
        return features

    def _positions(self, height: int, width: int) -> Tensor:
        known: Tensor = self.encoder.pos_embedding
        side = round((known.shape[1] - 1) ** 0.5)
        if (height, width) == (side, side):
            return known
        grid = known[:, 1:].transpose(1, 2).reshape(1, CHANNELS, side, side)
        wanted = functional.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
        return torch.cat([known[:, :1], wanted.flatten(2).transpose(1, 2)], dim=1)


def _filled(images: Tensor) -> Tensor:
    """Reflect the borders until both sides are multiples of a patch's."""
    down, across = (-side % PATCH for side in images.shape[2:])
    if not down and not across:
        return images
    return functional.pad(images, (across // 2, -(-across // 2), down // 2, -(-down // 2)), mode="reflect")
