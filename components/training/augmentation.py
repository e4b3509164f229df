"""Augmentation of whole batches as tensors; what happens to an image hangs on its random draws alone.

The study's seven transformations (PAPER: Method) and quarter turns, for a microscope's picture has no
upper side. All keep the covered share of the floor. Their ranges are the constants below.
"""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from components.settings import GEOMETRIC, Augmentation

# rotation: uniform in +-MAX_ANGLE. horizontal_flip, vertical_flip: half of the images. quarter_turn: 0 to 3.
MAX_ANGLE = math.radians(20.0)
# colour_jitter: brightness times 1 +- MAX_BRIGHTNESS, hue turned by +-MAX_HUE of the colour circle; both uniform.
MAX_BRIGHTNESS = 0.2
MAX_HUE = 0.05
# blur: a Gaussian whose standard deviation, in pixels of the network's input, is |normal(0, BLUR_SCALE)|.
BLUR_SCALE = 1.0
MAX_BLUR = 2.0
_BLUR_REACH = 6  # pixels on each side: three standard deviations of the widest
# sharpness: the smoothed image and 1 to MAX_SHARPNESS times its edges; contrast: stretched to the full range.
MAX_SHARPNESS = 3.0
# Half of the images are sharpened and, drawn anew, half are stretched.
ENHANCED = 0.5
# Boxes of which less is left in the picture are dropped.
MIN_VISIBLE = 0.5

# One uniform number in [0, 1) each.
_DRAWN = (
    "horizontal_flip",
    "vertical_flip",
    "quarter_turn",
    "rotation",
    "brightness",
    "hue",
    "blur",
    "sharpness",
    "edges",
    "contrast",
)
DRAWS = len(_DRAWN)

_LUMA = (0.299, 0.587, 0.114)
_CHROMA = ((0.596, -0.274, -0.322), (0.211, -0.523, 0.312))  # the other two axes of YIQ


def draw(images: int, generator: torch.Generator) -> Tensor:
    """Draw the random numbers of a whole epoch, (images, DRAWS), so that they do not depend on batches or ranks."""
    return torch.rand(images, DRAWS, generator=generator)


def augment(images: Tensor, draws: Tensor, chosen: Collection[Augmentation]) -> Tensor:
    """Transform each image by its draws.

    Args:
        images: float32 (N, 3, S, S), in 0..1.
        draws: float32 (N, DRAWS), in [0, 1); an image's transformation does not depend on which others are chosen.
        chosen: What is done; in the study's order, whatever the order given.

    Returns:
        Images of the same shape and range.
    """
    drawn = _named(draws.to(images.device))
    # What comes from outside is the image's own reflection, not a black corner.
    turned = _turn(images, _views(drawn, chosen), "reflection") if _moves(chosen) else images
    return _recolour(turned, drawn, chosen)


def augment_boxes(
    images: Tensor, boxes: Sequence[Tensor], draws: Tensor, chosen: Collection[Augmentation]
) -> tuple[Tensor, list[Tensor]]:
    """Transform each image by its draws, and its boxes with it.

    A turned box is the bounding box of the ellipse that filled the box before: cells are round, and
    the bounding box of the box's corners would be up to 1.6 times too large.

    Args:
        images: float32 (N, 3, S, S), in 0..1.
        boxes: For each image (n, 4 or more): x1, y1, x2, y2 in pixels from the image's corner, n from 0; further
            columns (a label) are carried along.
        draws: float32 (N, DRAWS), in [0, 1), as ``draw`` gives them.
        chosen: What is done.

    Returns:
        Images of the same shape and range, where what comes from outside is the image's mean: a reflection would
        show cells without their boxes. And the boxes, cut at the picture's edge, without those of which less than
        ``MIN_VISIBLE`` is left.
    """
    drawn = _named(draws.to(images.device))
    if not _moves(chosen):
        return _recolour(images, drawn, chosen), list(boxes)
    views, mean = _views(drawn, chosen), images.mean(dim=(2, 3), keepdim=True)
    turned = _turn(images - mean, views, "zeros") + mean
    moved = [_move(each, view.to(each), images.shape[-1]) for each, view in zip(boxes, views, strict=True)]
    return _recolour(turned, drawn, chosen), moved


def _named(draws: Tensor) -> dict[str, Tensor]:
    return dict(zip(_DRAWN, draws.unbind(dim=1), strict=True))


def _moves(chosen: Collection[Augmentation]) -> bool:
    return not set(GEOMETRIC).isdisjoint(chosen)


def _centred(uniform: Tensor) -> Tensor:
    return uniform * 2 - 1


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _views(drawn: dict[str, Tensor], chosen: Collection[Augmentation]) -> Tensor:
    """Give a matrix (2, 2) an image, which takes a place in the new picture to its place in the old one."""
    angle = torch.zeros_like(drawn["rotation"])
    if "rotation" in chosen:
        angle = _centred(drawn["rotation"]) * MAX_ANGLE
    if "quarter_turn" in chosen:
        angle = angle + (drawn["quarter_turn"] * 4).floor() * (math.pi / 2)
    signs = []
    for flip in ("horizontal_flip", "vertical_flip"):
        flipped = (drawn[flip] >= 0.5) if flip in chosen else torch.zeros_like(angle, dtype=torch.bool)
        signs.append(torch.where(flipped, -1.0, 1.0))
    (across, down), (cosine, sine) = signs, (angle.cos(), angle.sin())
    return torch.stack([cosine * across, -sine * down, sine * across, cosine * down], dim=1).view(-1, 2, 2)


def _turn(images: Tensor, views: Tensor, outside: str) -> Tensor:
    grid = functional.affine_grid(functional.pad(views, (0, 1)), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)


def _move(boxes: Tensor, view: Tensor, side: int) -> Tensor:
    """Take the boxes (n, 4 or more) of one image to where its view shows them."""
    forth = view.T  # a turn's and a flip's inverse
    centre = (boxes[:, 0:2] + boxes[:, 2:4] - side) / 2 @ forth.T + side / 2
    radii = (((boxes[:, 2:4] - boxes[:, 0:2]) / 2)[:, None, :] * forth).norm(dim=2)
    whole = torch.cat([centre - radii, centre + radii], dim=1)
    shown = whole.clamp(0, side)
    visible = _area(shown) >= MIN_VISIBLE * _area(whole)
    return torch.cat([shown, boxes[:, 4:]], dim=1)[visible & (_area(shown) > 0)]


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:4] - boxes[:, 0:2]).prod(dim=1)


def _recolour(images: Tensor, drawn: dict[str, Tensor], chosen: Collection[Augmentation]) -> Tensor:
    if "colour_jitter" in chosen:
        images = _jitter(images, drawn["brightness"], drawn["hue"])
    if "blur" in chosen:
        images = _blur(images, drawn["blur"])
    if "sharpness" in chosen:
        amount = 1 + drawn["edges"] * (MAX_SHARPNESS - 1)
        images = _sharpen(images, torch.where(drawn["sharpness"] < ENHANCED, amount, 1.0))
    if "contrast" in chosen:
        images = torch.where(_each(drawn["contrast"] < ENHANCED), _stretch(images), images)
    return images.clamp(0, 1)


def _jitter(images: Tensor, brightness: Tensor, hue: Tensor) -> Tensor:
    """Scale the brightness and turn the colours about the axis of greys, which stay grey (a turn in YIQ)."""
    axes = torch.tensor((_LUMA, *_CHROMA), device=images.device)
    angle = _centred(hue) * MAX_HUE * 2 * math.pi
    cosine, sine = angle.cos(), angle.sin()
    turn = torch.zeros(len(images), 3, 3, device=images.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cosine, -sine, sine, cosine
    mix: Tensor = torch.linalg.inv(axes) @ turn @ axes * (1 + _centred(brightness) * MAX_BRIGHTNESS)[:, None, None]
    return (mix @ images.flatten(2)).view_as(images).clamp(0, 1)


def _blur(images: Tensor, uniform: Tensor) -> Tensor:
    normal = torch.erfinv(_centred(uniform).clamp(-1 + 1e-6, 1 - 1e-6)) * math.sqrt(2)
    deviation = (normal.abs() * BLUR_SCALE).clamp(1e-3, MAX_BLUR)
    reach = min(_BLUR_REACH, images.shape[-1] - 1)
    steps = torch.arange(-reach, reach + 1, device=images.device)
    weights = (-0.5 * (steps / deviation[:, None]) ** 2).exp()
    return _smooth(images, weights / weights.sum(dim=1, keepdim=True))


def _smooth(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel (N, K), across and down; the borders are reflected."""
    count, channels, height, width = images.shape
    reach = kernels.shape[1] // 2
    rows = kernels.repeat_interleave(channels, dim=0)[:, None]
    flat = functional.pad(images, (reach,) * 4, mode="reflect").view(1, count * channels, height + 2 * reach, -1)
    across = functional.conv2d(flat, rows[:, :, None, :], groups=count * channels)
    down = functional.conv2d(across, rows[:, :, :, None], groups=count * channels)
    return down.view(count, channels, height, width)


def _sharpen(images: Tensor, amount: Tensor) -> Tensor:
    """Add a multiple of the edges (the image less its smoothed self) to the smoothed image; 1 changes nothing."""
    smooth = _smooth(images, torch.tensor([0.25, 0.5, 0.25], device=images.device).expand(len(images), 3))
    return (smooth + _each(amount) * (images - smooth)).clamp(0, 1)


def _stretch(images: Tensor) -> Tensor:
    """Stretch each image to the full range; one that is all but even stays as it is."""
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(high - low > 1 / 255, (images - low) / (high - low).clamp(min=1 / 255), images)
