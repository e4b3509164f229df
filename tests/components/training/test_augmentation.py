import pytest
import torch

from components.training.augmentation import DRAWS, augment, draw

# Which draw does what; a half is the middle of those that go both ways.
FLIP, QUARTER, ANGLE, COLOUR, SHARPNESS, CONTRAST, BRIGHTNESS = range(DRAWS)
NEUTRAL = [0.0, 0.0, 0.5, 0.0, 0.5, 0.5, 0.5]


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def with_draws(images: torch.Tensor, changes: dict[int, float]) -> torch.Tensor:
    draws = torch.tensor([NEUTRAL] * len(images))
    for place, value in changes.items():
        draws[:, place] = value
    return augment(images, draws)


def test_neutral_draws_change_nothing(images: torch.Tensor) -> None:
    torch.testing.assert_close(with_draws(images, {}), images, atol=1e-4, rtol=0)


def test_flips_and_quarter_turns_move_pixels_exactly(images: torch.Tensor) -> None:
    torch.testing.assert_close(with_draws(images, {FLIP: 0.5}), images.flip(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(with_draws(images, {QUARTER: 0.5}), images.flip(2, 3), atol=1e-4, rtol=0)
    quarter = with_draws(images, {QUARTER: 0.25})
    assert any(torch.allclose(quarter, torch.rot90(images, turns, (2, 3)), atol=1e-4) for turns in (1, 3))


def test_all_eight_views_of_a_square_are_reached(images: torch.Tensor) -> None:
    views = {
        tuple(with_draws(images[:1], {FLIP: flip, QUARTER: quarter}).round(decimals=2).flatten().tolist())
        for flip in (0.0, 0.5)
        for quarter in (0.0, 0.25, 0.5, 0.75)
    }
    assert len(views) == 8


def test_a_turn_by_any_angle_shows_no_corners_from_outside(images: torch.Tensor) -> None:
    bright = images.clamp(min=0.5)
    assert with_draws(bright, {ANGLE: 0.99}).min() >= 0.5 - 1e-4


def test_blur_lowers_and_sharpening_raises_the_differences_between_neighbours(images: torch.Tensor) -> None:
    def roughness(batch: torch.Tensor) -> float:
        return float((batch[..., 1:] - batch[..., :-1]).abs().mean())

    calm = images * 0.2 + 0.4
    assert (
        roughness(with_draws(calm, {SHARPNESS: 0.0})) < roughness(calm) < roughness(with_draws(calm, {SHARPNESS: 0.99}))
    )


def test_brightness_shifts_and_contrast_stretches_around_the_mean(images: torch.Tensor) -> None:
    calm = images * 0.2 + 0.4
    assert with_draws(calm, {BRIGHTNESS: 0.75}).mean() == pytest.approx(float(calm.mean()) + 0.1, abs=1e-3)
    stretched = with_draws(calm, {CONTRAST: 0.9})
    assert stretched.mean() == pytest.approx(float(calm.mean()), abs=1e-3)
    assert stretched.std() > calm.std() * 1.2


def test_colour_fades_to_grey(images: torch.Tensor) -> None:
    grey = with_draws(images, {COLOUR: 0.9999})
    torch.testing.assert_close(grey[:, 0], grey[:, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(grey.mean(dim=1), images.mean(dim=1), atol=1e-3, rtol=0)


def test_the_covered_share_survives(images: torch.Tensor) -> None:
    cells = (torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    floor = cells.repeat_interleave(16, 2).repeat_interleave(16, 3).expand(-1, 3, -1, -1).contiguous()
    draws = torch.tensor([NEUTRAL] * 8)
    draws[:, :3] = torch.rand(8, 3, generator=torch.Generator().manual_seed(2))
    change = augment(floor, draws).mean(dim=(1, 2, 3)) - floor.mean(dim=(1, 2, 3))
    assert change.abs().max() < 0.1


def test_an_image_does_not_depend_on_its_batch(images: torch.Tensor) -> None:
    draws = draw(len(images), torch.Generator().manual_seed(3))
    alone = torch.cat([augment(images[i : i + 1], draws[i : i + 1]) for i in range(len(images))])
    together = augment(images, draws)
    torch.testing.assert_close(alone, together)
    assert together.min() >= 0
    assert together.max() <= 1
    assert not torch.allclose(together, images, atol=0.05)


def test_equal_generators_draw_equal_numbers() -> None:
    first, second, other = (draw(5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (5, DRAWS)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
