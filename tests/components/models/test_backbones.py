import pytest
import torch

from components.errors import SettingsError
from components.models.backbones import BACKBONES, backbone, names


@pytest.mark.parametrize("name", names())
def test_any_size_from_32_pixels_gives_features_of_the_promised_width(name: str) -> None:
    entry = backbone(name)
    network = entry.build().eval()
    for size in (32, 75):
        with torch.no_grad():
            features = network(torch.zeros(1, 3, size, size))
        assert features.shape[:2] == (1, entry.channels)
        assert min(features.shape[2:]) >= 1


def test_the_study_backbones_of_this_release_are_registered() -> None:
    assert {"resnet50", "mobilenet_v3", "shufflenet_v2"} <= set(BACKBONES)


def test_an_unknown_backbone_is_named_with_those_that_exist() -> None:
    with pytest.raises(SettingsError, match=r"'resnet51' is not one of efficientnet_lite0, .*resnet50"):
        backbone("resnet51")


@pytest.mark.parametrize("name", names())
def test_batch_statistics_move_within_tens_of_steps(name: str) -> None:
    network = backbone(name).build().train()
    momenta = [layer.momentum for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert momenta == pytest.approx([0.1] * len(momenta))
