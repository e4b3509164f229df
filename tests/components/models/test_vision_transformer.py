import pytest
import torch
from torchvision.models import vit_b_32

from components.models.vision_transformer import CHANNELS, VisionTransformerFeatures


@pytest.fixture(scope="module")
def network() -> VisionTransformerFeatures:
    torch.manual_seed(0)
    return VisionTransformerFeatures().eval()


@pytest.mark.parametrize(("side", "patches"), [(32, 1), (33, 2), (64, 2), (224, 7), (300, 10)])
@torch.no_grad()
def test_any_side_is_divided_into_whole_patches(side: int, patches: int, network: VisionTransformerFeatures) -> None:
    assert network(torch.randn(1, 3, side, side)).shape == (1, CHANNELS, patches, patches)


@torch.no_grad()
def test_at_the_published_size_it_is_the_published_network(network: VisionTransformerFeatures) -> None:
    published = vit_b_32().eval()
    published.heads = torch.nn.Identity()
    published.load_state_dict(network.state_dict())
    seen: list[torch.Tensor] = []
    published.encoder.register_forward_hook(lambda _, __, tokens: seen.append(tokens))
    images = torch.randn(1, 3, 224, 224)
    published(images)
    features = network(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(features, seen[0][:, 1:], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_is_filled_up_is_the_images_reflection(network: VisionTransformerFeatures) -> None:
    image = torch.randn(1, 3, 44, 44)
    filled = torch.nn.functional.pad(image, (10, 10, 10, 10), mode="reflect")
    torch.testing.assert_close(network(image), network(filled))


@torch.no_grad()
def test_positions_keep_their_place_when_they_are_interpolated(network: VisionTransformerFeatures) -> None:
    network.encoder.pos_embedding.data[:, 1:] = torch.arange(49.0)[None, :, None] // 7  # the row's number
    try:
        grid = network._positions(14, 14)[0, 1:, 0].view(14, 14)
    finally:
        network.encoder.pos_embedding.data.normal_(std=0.02)
    assert (grid.diff(dim=0) > -0.1).all(), "rows ascend"
    assert grid[0].max() < 0.5
    assert grid[-1].min() > 5.5
    torch.testing.assert_close(grid, grid[:, :1].expand(14, 14), atol=1e-4, rtol=0)
