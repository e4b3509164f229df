import pytest
import torch
from torch import nn

from components.models.backbones import BACKBONES, Backbone
from components.models.classifier import AdaptiveVector, build_classifier
from components.models.weights import Weights, find_weights, load_weights, state_digest


@pytest.mark.parametrize("channels", [5, 256, 960, 1280, 2048, 3000])
def test_pooling_is_torch_adaptive_average_pooling_over_channels_and_space(channels: int) -> None:
    features = torch.randn(2, channels, 3, 5)
    expected = nn.AdaptiveAvgPool2d((2048, 1))(features.flatten(2)[:, None]).flatten(1)
    torch.testing.assert_close(AdaptiveVector(channels)(features), expected)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(BACKBONES, "tiny", Backbone(lambda: nn.Conv2d(3, 7, 3), channels=7))
    return "tiny"


def test_four_logits_an_image_at_any_size(tiny: str) -> None:
    model = build_classifier(tiny, 0.5, Weights("none"), seed=0)
    assert model(torch.zeros(2, 3, 40, 40)).shape == (2, 4)
    assert model(torch.zeros(3, 3, 51, 33)).shape == (3, 4)


def test_equal_seeds_give_equal_networks_and_leave_other_random_numbers_alone(tiny: str) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    digests = [state_digest(build_classifier(tiny, 0.5, Weights("none"), seed).state_dict()) for seed in (0, 0, 1)]
    assert torch.rand(1) == expected
    assert digests[0] == digests[1] != digests[2]


def test_the_head_has_the_layers_of_the_study(tiny: str) -> None:
    head = build_classifier(tiny, 0.25, Weights("none"), seed=0).head
    linear = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)]
    assert linear == [(2048, 1024), (1024, 4)]
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.25]


def test_pretrained_weights_are_in_the_backbone() -> None:
    weights = find_weights("efficientnet_lite0", "auto")
    model = build_classifier("efficientnet_lite0", 0.5, weights, seed=0)
    features = BACKBONES["efficientnet_lite0"].build()
    load_weights(features, "efficientnet_lite0", weights)
    assert state_digest(model.features.state_dict()) == state_digest(features.state_dict())
