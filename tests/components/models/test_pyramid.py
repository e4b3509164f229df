import pytest
import torch

from components.errors import SettingsError
from components.models.pyramid import PYRAMIDS, STRIDES, pyramid
from components.models.trunk import build_trunk
from components.models.weights import Weights, find_weights, state_digest


@pytest.mark.parametrize("name", sorted(PYRAMIDS))
def test_the_stages_shrink_the_image_as_the_entry_says(name: str) -> None:
    trunk = build_trunk(name, Weights("none"), 0).eval()
    with torch.no_grad():
        features = trunk(torch.zeros(1, 3, 64, 64))
    shapes = [tuple(each.shape) for each in features]
    assert shapes == [
        (1, channels, 64 // stride, 64 // stride)
        for channels, stride in zip(pyramid(name).channels, STRIDES, strict=True)
    ]


def test_a_backbone_without_scales_is_refused_by_name(tiny_backbone: str) -> None:
    with pytest.raises(SettingsError, match=f"'{tiny_backbone}' cannot look for cells.*mobilenet_v3"):
        pyramid(tiny_backbone)


def test_an_unknown_backbone_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"training\.backbone 'resnet5' is not one of"):
        pyramid("resnet5")


def test_it_starts_from_pretrained_weights() -> None:
    name = "efficientnet_lite0"
    weights = find_weights(name, "auto")
    first, again, random = (
        state_digest(build_trunk(name, which, seed).state_dict())
        for which, seed in ((weights, 0), (weights, 1), (Weights("none"), 0))
    )
    assert first == again != random
