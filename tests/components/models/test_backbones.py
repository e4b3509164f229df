import pytest
import torch

from components.errors import SettingsError
from components.models.backbones import BACKBONES, backbone, check_size, names


@pytest.mark.parametrize("name", names())
def test_any_size_from_the_least_gives_features_of_the_promised_width(name: str) -> None:
    entry = backbone(name)
    network = entry.build().eval()
    for size in (entry.least_size, 77):
        with torch.no_grad():
            features = network(torch.zeros(1, 3, size, size))
        assert features.shape[:2] == (1, entry.channels)
        assert min(features.shape[2:]) >= 1


@pytest.mark.parametrize("name", ["alexnet", "inception_v3"])
def test_the_least_size_is_the_least(name: str) -> None:
    entry = backbone(name)
    with pytest.raises(RuntimeError, match=r"too small|can't be greater"):
        entry.build().eval()(torch.zeros(1, 3, entry.least_size - 1, entry.least_size - 1))


def test_images_that_are_too_small_are_refused_with_what_would_do() -> None:
    check_size("inception_v3", 75)
    with pytest.raises(SettingsError, match=r"image_size 74 .* 'inception_v3', which needs 75 pixels; .* resnet50"):
        check_size("inception_v3", 74)


def test_the_six_backbones_of_the_study_are_registered() -> None:
    assert {"alexnet", "inception_v3", "resnet50", "shufflenet_v2", "mobilenet_v3", "vit"} <= set(BACKBONES)


@pytest.mark.parametrize("name", ["alexnet", "inception_v3", "vit"])
def test_a_random_start_keeps_the_size_of_a_signal(name: str) -> None:
    torch.manual_seed(0)
    network = backbone(name).build().eval()
    with torch.no_grad():
        features = network(torch.randn(2, 3, 96, 96))
    assert 1e-2 < features.std() < 1e2


def test_an_unknown_backbone_is_named_with_those_that_exist() -> None:
    with pytest.raises(SettingsError, match=r"'resnet51' is not one of alexnet, .*resnet50"):
        backbone("resnet51")


@pytest.mark.parametrize("name", names())
def test_batch_statistics_move_within_tens_of_steps(name: str) -> None:
    network = backbone(name).build().train()
    momenta = [layer.momentum for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert momenta == pytest.approx([0.1] * len(momenta))
