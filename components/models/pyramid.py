"""A backbone cut into stages, so that a detector can see its features at several scales.

An entry of ``PYRAMIDS`` lists the backbone's own layers in the order in which they run, cut where the
features have shrunk to a quarter, an eighth, a sixteenth and a thirty-second of the image. What the
published network does after that (a last widening, the classifier) is left out. Read without torch, as
the registry of backbones is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.errors import SettingsError
from components.models.backbones import backbone

if TYPE_CHECKING:
    from torch import nn

STRIDES = (4, 8, 16, 32)

Layers = Sequence["nn.Module"]


@dataclass(frozen=True)
class Pyramid:
    """How one backbone is cut.

    Attributes:
        cut: Gives the layers of each stage, from the network that ``Backbone.build`` makes.
        channels: Of the features at the end of each stage.
    """

    cut: Callable[[Any], Sequence[Layers]]
    channels: tuple[int, int, int, int]


def _resnet50(network: Any) -> Sequence[Layers]:
    stem = [network.conv1, network.bn1, network.relu, network.maxpool]
    return [*stem, network.layer1], [network.layer2], [network.layer3], [network.layer4]


def _shufflenet_v2(network: Any) -> Sequence[Layers]:
    return [network.conv1, network.maxpool], [network.stage2], [network.stage3], [network.stage4]


def _mobilenet_v3(network: Any) -> Sequence[Layers]:
    layers = list(network.features)
    return layers[:4], layers[4:7], layers[7:13], layers[13:16]


def _efficientnet_lite0(network: Any) -> Sequence[Layers]:
    blocks = list(network._blocks)
    stem = [network._conv_stem, network._bn0, network._swish]
    return [*stem, *blocks[:3]], blocks[3:5], blocks[5:11], blocks[11:]


PYRAMIDS: dict[str, Pyramid] = {
    "efficientnet_lite0": Pyramid(_efficientnet_lite0, (24, 40, 112, 320)),
    "mobilenet_v3": Pyramid(_mobilenet_v3, (24, 40, 112, 160)),
    "resnet50": Pyramid(_resnet50, (256, 512, 1024, 2048)),
    "shufflenet_v2": Pyramid(_shufflenet_v2, (24, 244, 488, 976)),
}


def pyramid(name: str) -> Pyramid:
    """Look up how a backbone is cut.

    Raises:
        SettingsError: if no backbone has this name, or it has no features at several scales.
    """
    backbone(name)
    try:
        return PYRAMIDS[name]
    except KeyError:
        raise SettingsError(
            f"training.backbone '{name}' cannot look for cells at several scales; use {', '.join(sorted(PYRAMIDS))}"
        ) from None
