"""The default network: a map of the covered floor, the map's mean, and the bands that the mean falls into.

Confluence is the covered share of the floor. A network that may answer in no other way, a mean over
places of what each place looks like, cannot learn where in the image cells lie or what one
laboratory's light looks like as a whole, and needs few images: its map is learnt from simulated
cultures, whose cover is known at every pixel (``benchmarks/cover_weights.py``).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.culture import BAND_EDGES

# Pixels of the input for each place of the map.
STRIDE = 4
_WIDTH = 32
_DILATIONS = (1, 2, 1, 2)
# A mean this far beyond an edge has odds of e to 1 to lie beyond it; where a fit starts.
_BLUR = 0.05


class CoverNet(nn.Module):
    """Images (N, 3, S, S), normalised, to a map (N, 1, S / 4, S / 4): log odds that a place is covered.

    Each place sees 63 pixels around it, and how far the whole image's features spread: what counts as
    bare differs with light and noise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(3, _WIDTH // 2, stride=2), *_conv(_WIDTH // 2, _WIDTH, stride=2))
        self.near = nn.Sequential(*(_Residual(dilation) for dilation in _DILATIONS))
        self.context = nn.Sequential(nn.Linear(2 * _WIDTH, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH))
        self.judge = nn.Sequential(_Residual(1), nn.Conv2d(_WIDTH, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Give the map."""
        features = self.near(self.stem(images))
        mean = features.mean(dim=(2, 3), keepdim=True)
        spread = ((features - mean).square().mean(dim=(2, 3)) + 1e-4).sqrt()
        context = self.context(torch.cat([mean.flatten(1), spread], dim=1))
        odds: Tensor = self.judge(functional.relu(features + context[:, :, None, None]))
        return odds


class _Residual(nn.Module):
    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(_WIDTH)

    def forward(self, features: Tensor) -> Tensor:
        return functional.relu(features + self.norm(self.conv(features)))


def _conv(inward: int, outward: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inward, outward, 3, stride, 1, bias=False), nn.BatchNorm2d(outward), nn.ReLU()


class CoveredShare(nn.Module):
    """Maps (N, 1, h, w) of log odds to the covered share (N, 1), 0 to 1."""

    def forward(self, odds: Tensor) -> Tensor:
        """Average the map's probabilities."""
        return odds.float().sigmoid().mean(dim=(2, 3))


class Bands(nn.Module):
    """Covered shares (N, 1) to logits (N, 4): which band of ``components.culture`` the share falls into.

    An ordered logit whose thresholds are the bands' own edges: the true share is taken to be spread
    around the map's mean by a logistic distribution, whose width is learnt. The logits are the logs of
    the bands' probabilities, so that the cross-entropy is the likelihood of an image's band: a mean one
    band off costs less than one two bands off.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_steepness = nn.Parameter(torch.tensor(-math.log(_BLUR)))
        self.register_buffer("edges", torch.tensor(BAND_EDGES[1:-1]), persistent=False)
        self.edges: Tensor

    def forward(self, share: Tensor) -> Tensor:
        """Give the logits."""
        steepness = self.log_steepness.exp()
        above = _log_sigmoid((share - self.edges) * steepness)
        below = _log_sigmoid((self.edges - share) * steepness)
        # log(p - q) of the probabilities p and q to lie above a band's two edges; it does not lose digits.
        gaps = torch.log(-torch.expm1((self.edges[:-1] - self.edges[1:]) * steepness))
        return torch.cat([below[:, :1], above[:, :-1] + below[:, 1:] + gaps, above[:, -1:]], dim=1)


def _log_sigmoid(x: Tensor) -> Tensor:
    """Written out, because ONNX has but the log of a sigmoid, which is wrong in the second digit far from 0."""
    return -functional.relu(-x) - torch.log1p(torch.exp(-x.abs()))
