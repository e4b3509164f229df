"""Augmentation of whole batches as tensors; what happens to an image hangs on its random draws alone.

The study's transformations as far as they keep the covered share of the floor: rotation, both flips,
brightness, contrast, blur and sharpening. Hue is left alone, since phase contrast has none.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

# One uniform number in [0, 1) each: flip, quarter turns, angle, brightness, contrast, sharpness.
DRAWS = 6

MAX_ANGLE = math.radians(20.0)
MAX_BRIGHTNESS = 0.1
MAX_CONTRAST = 0.25
MAX_SHARPNESS = 1.0


def draw(images: int, generator: torch.Generator) -> Tensor:
    """Draw the random numbers of a whole epoch, (images, DRAWS), so that they do not depend on batches or ranks."""
    return torch.rand(images, DRAWS, generator=generator)


def augment(images: Tensor, draws: Tensor) -> Tensor:
    """Transform each image by its draws.

    Args:
        images: float32 (N, 3, S, S), in 0..1.
        draws: float32 (N, DRAWS), in [0, 1).

    Returns:
        Images of the same shape and range.
    """
    flip, quarter, angle, brightness, contrast, sharpness = draws.to(images.device).unbind(dim=1)
    turned = _turn(images, flip >= 0.5, (quarter * 4).floor() * (math.pi / 2) + _centred(angle) * MAX_ANGLE)
    focused = _focus(turned, _centred(sharpness) * MAX_SHARPNESS)
    mean = focused.mean(dim=(1, 2, 3), keepdim=True)
    lit = (focused - mean) * _each(1 + _centred(contrast) * MAX_CONTRAST) + mean
    return (lit + _each(_centred(brightness) * MAX_BRIGHTNESS)).clamp(0, 1)


def _centred(uniform: Tensor) -> Tensor:
    return uniform * 2 - 1


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _turn(images: Tensor, flip: Tensor, angle: Tensor) -> Tensor:
    """Mirror and rotate; what comes from outside is the image's own reflection, not a black corner."""
    cosine, sine = angle.cos(), angle.sin()
    sign = torch.where(flip, -1.0, 1.0)
    zero = torch.zeros_like(angle)
    rows = torch.stack([cosine * sign, -sine, zero, sine * sign, cosine, zero], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _focus(images: Tensor, amount: Tensor) -> Tensor:
    """Add a multiple of the edges: below 0 it blurs, at -1 to a Gaussian of one pixel, above 0 it sharpens."""
    kernel = torch.tensor([0.25, 0.5, 0.25], device=images.device)
    kernel = (kernel[:, None] * kernel).expand(images.shape[1], 1, 3, 3)
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    smooth = functional.conv2d(padded, kernel, groups=images.shape[1])
    return images + _each(amount) * (images - smooth)
