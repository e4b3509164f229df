"""Augmentation of whole batches as tensors; what happens to an image hangs on its random draws alone.

The study's transformations: rotation, both flips, brightness, contrast, colour, blur and sharpening.
All keep the covered share of the floor. Colour fades towards grey instead of changing its hue: what
colour there is comes from the optics of one laboratory.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

# One uniform number in [0, 1) each: flip, quarter turns, angle, colour, sharpness, contrast, brightness.
DRAWS = 7

MAX_ANGLE = math.radians(20.0)
MAX_SHARPNESS = 1.0
MAX_LOG_CONTRAST = 0.5
MAX_BRIGHTNESS = 0.2


def draw(images: int, generator: torch.Generator) -> Tensor:
    """Draw the random numbers of a whole epoch, (images, DRAWS), so that they do not depend on batches or ranks."""
    return torch.rand(images, DRAWS, generator=generator)


def augment(images: Tensor, draws: Tensor, *, photometric: bool = True) -> Tensor:
    """Transform each image by its draws.

    Args:
        images: float32 (N, 3, S, S), in 0..1.
        draws: float32 (N, DRAWS), in [0, 1).
        photometric: Change colour, sharpness, contrast and brightness too; not for planes that measure them.

    Returns:
        Images of the same shape and range.
    """
    flip, quarter, angle, colour, sharpness, contrast, brightness = draws.to(images.device).unbind(dim=1)
    turned = _turn(images, flip >= 0.5, (quarter * 4).floor() * (math.pi / 2) + _centred(angle) * MAX_ANGLE)
    if not photometric:
        return turned
    grey = turned.mean(dim=1, keepdim=True)
    faded = turned + _each(colour) * (grey - turned)
    focused = _focus(faded, _centred(sharpness) * MAX_SHARPNESS)
    mean = focused.mean(dim=(1, 2, 3), keepdim=True)
    lit = (focused - mean) * _each((_centred(contrast) * MAX_LOG_CONTRAST).exp()) + mean
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
