"""The detector: RetinaNet, one stage on a feature pyramid (Lin et al., 2017; PAPER: Method)."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FeaturePyramidNetwork, batched_nms

from components.boxes import Boxes
from components.models.anchors import PER_PLACE, decode, make_anchors
from components.models.pyramid import STRIDES, pyramid
from components.models.trunk import Trunk, build_trunk
from components.models.weights import Weights, load_whole
from components.settings import DetectionSettings

# What the network believes of an anchor before it has learnt anything; without it, the many anchors on
# nothing would drown the few on cells (focal loss).
_PRIOR = 0.01
# Most anchors of an image that are looked at further.
CANDIDATES = 1000
_GROUPS = 8


class Head(nn.Module):
    """The same convolutions on each level: features (N, C, h, w) to answers (N, h * w * 9, length)."""

    def __init__(self, width: int, depth: int, length: int, bias: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            groups = math.gcd(_GROUPS, width)
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(groups, width), nn.ReLU()]
        self.tower = nn.Sequential(*layers)
        self.answer = nn.Conv2d(width, PER_PLACE * length, 3, padding=1)
        self.length = length
        nn.init.normal_(self.answer.weight, std=0.01)
        nn.init.constant_(self.answer.bias, bias)  # type: ignore[arg-type]  # a Conv2d with a bias has one

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Give the answers of all levels, one after another."""
        answers = [self.answer(self.tower(level)).permute(0, 2, 3, 1).flatten(1) for level in levels]
        return torch.cat(answers, dim=1).reshape(answers[0].shape[0], -1, self.length)


class Detector(nn.Module):
    """Images (N, 3, size, size), normalised, to the class logits and the box offsets of every anchor.

    Class 0 is the abnormal cell. A pretrained trunk keeps its batch statistics in training, as the
    classifier's does (docs/decisions/0051-frozen-statistics.md).

    Args:
        trunk: The backbone's stages.
        channels: Of the trunk's features.
        size: Side of the images, pixels.
        classes: Kinds of boxes that are told apart; only the first is ever given out.
        settings: Width, depth and finest level.
        frozen_norm: Whether batch statistics stay as they are.
    """

    def __init__(
        self,
        trunk: Trunk,
        channels: tuple[int, ...],
        size: int,
        classes: int,
        settings: DetectionSettings,
        *,
        frozen_norm: bool,
    ) -> None:
        super().__init__()
        self.first = settings.finest - 2
        self.size, self.frozen_norm = size, frozen_norm
        self.trunk = trunk
        self.neck = FeaturePyramidNetwork(list(channels[self.first :]), settings.width)
        self.coarsest = nn.Conv2d(settings.width, settings.width, 3, stride=2, padding=1)
        self.kind = Head(settings.width, settings.depth, classes, -math.log((1 - _PRIOR) / _PRIOR))
        self.place = Head(settings.width, settings.depth, 4, 0.0)
        strides = (*STRIDES[self.first :], 2 * STRIDES[-1])
        self.register_buffer("anchors", make_anchors(size, strides), persistent=False)
        self.anchors: Tensor

    def train(self, mode: bool = True) -> Self:
        """Switch to training, where frozen batch statistics stay as they are, or back."""
        super().train(mode)
        if self.frozen_norm:
            for layer in self.trunk.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits (N, A, classes) and offsets (N, A, 4) of the A anchors."""
        named = OrderedDict((str(number), level) for number, level in enumerate(self.trunk(images)[self.first :]))
        levels = list(self.neck(named).values())
        levels.append(self.coarsest(levels[-1]))
        return self.kind(levels), self.place(levels)

    def candidates(self, logits: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Give the boxes that are likeliest abnormal cells, before doubles are dropped.

        Returns:
            Boxes (N, T, 4) as fractions of the image, cut at its edges, and scores (N, T), descending.
        """
        scores, rows = logits[..., 0].topk(min(CANDIDATES, len(self.anchors)), dim=1)
        chosen = offsets.gather(1, rows[..., None].expand(-1, -1, 4))
        boxes = decode(chosen, self.anchors[rows]) / self.size
        return boxes.clamp(0, 1), scores.sigmoid()


def strongest(boxes: Tensor, scores: Tensor, settings: DetectionSettings) -> list[tuple[Tensor, Tensor]]:
    """Drop weak boxes, and those that a stronger one covers.

    Args:
        boxes: (N, T, 4).
        scores: (N, T).
        settings: The least score, the overlap that is too much, and how many boxes are kept.

    Returns:
        For each image, boxes (n, 4) and scores (n,), descending.
    """
    image, row = torch.nonzero(scores > settings.min_score, as_tuple=True)
    flat, score = boxes[image, row].float(), scores[image, row].float()
    kept = batched_nms(flat, score, image, settings.suppression)
    of_image = [kept[image[kept] == number][: settings.max_boxes] for number in range(len(boxes))]
    return [(flat[rows], score[rows]) for rows in of_image]


def gathered(found: Sequence[tuple[Tensor, Tensor]]) -> Boxes:
    """Put together the boxes and scores of each image, as ``strongest`` gives them."""
    arrays = [[each.double().cpu().numpy() for each in pair] for pair in found]
    return Boxes.of([boxes for boxes, _ in arrays], [scores for _, scores in arrays])


def build_detector(
    name: str, size: int, classes: int, settings: DetectionSettings, weights: Weights, seed: int
) -> Detector:
    """Build a detector ready to be trained.

    Args:
        name: A registered backbone that has a pyramid.
        size: Side of the images, pixels.
        classes: Kinds of boxes to be told apart, the abnormal cell first.
        settings: The rest of its shape.
        weights: First weights of the backbone; unless they are those of a whole network, the rest starts at random.
        seed: Of the random start; equal seeds give equal networks.

    Raises:
        SettingsError: if the backbone is unknown or has no pyramid, or the weights belong to another one.
    """
    channels = pyramid(name).channels
    trunk = build_trunk(name, weights, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Detector(trunk, channels, size, classes, settings, frozen_norm=weights.pretrained)
    load_whole(model, name, weights)
    return model
