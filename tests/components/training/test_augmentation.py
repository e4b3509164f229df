import math
from collections.abc import Collection

import pytest
import torch

from components.settings import GEOMETRIC, PHOTOMETRIC, Augmentation
from components.training.augmentation import DRAWS, MAX_ANGLE, MAX_BRIGHTNESS, augment, augment_boxes, draw

# Which draw does what, and the numbers that change nothing.
H_FLIP, V_FLIP, QUARTER, ANGLE, BRIGHTNESS, HUE, BLUR, SHARPEN, EDGES, STRETCH = range(DRAWS)
NEUTRAL = [0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.99, 0.0, 0.99]
ALL = GEOMETRIC + PHOTOMETRIC


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def draws_of(count: int, changes: dict[int, float]) -> torch.Tensor:
    draws = torch.tensor([NEUTRAL] * count)
    for place, value in changes.items():
        draws[:, place] = value
    return draws


def changed(images: torch.Tensor, changes: dict[int, float], chosen: Collection[Augmentation] = ALL) -> torch.Tensor:
    return augment(images, draws_of(len(images), changes), chosen)


def roughness(batch: torch.Tensor) -> float:
    return float((batch[..., 1:] - batch[..., :-1]).abs().mean())


def test_neutral_draws_change_nothing(images: torch.Tensor) -> None:
    torch.testing.assert_close(changed(images, {}), images, atol=1e-4, rtol=0)


def test_flips_and_quarter_turns_move_pixels_exactly(images: torch.Tensor) -> None:
    torch.testing.assert_close(changed(images, {H_FLIP: 0.5}), images.flip(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(changed(images, {V_FLIP: 0.5}), images.flip(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(changed(images, {QUARTER: 0.5}), images.flip(2, 3), atol=1e-4, rtol=0)
    quarter = changed(images, {QUARTER: 0.25})
    assert any(torch.allclose(quarter, torch.rot90(images, turns, (2, 3)), atol=1e-4) for turns in (1, 3))


def test_all_eight_views_of_a_square_are_reached(images: torch.Tensor) -> None:
    views = {
        tuple(changed(images[:1], {H_FLIP: flip, QUARTER: quarter}).round(decimals=2).flatten().tolist())
        for flip in (0.0, 0.5)
        for quarter in (0.0, 0.25, 0.5, 0.75)
    }
    assert len(views) == 8


def test_a_turn_by_any_angle_shows_no_corners_from_outside(images: torch.Tensor) -> None:
    bright = images.clamp(min=0.5)
    assert changed(bright, {ANGLE: 0.99}).min() >= 0.5 - 1e-4


@pytest.mark.parametrize(("drawn", "degrees"), [(0.0, -20), (1.0, 20)])
def test_the_angle_goes_to_twenty_degrees_both_ways(drawn: float, degrees: float) -> None:
    assert math.degrees(MAX_ANGLE) == pytest.approx(20)
    spot = torch.zeros(1, 1, 101, 101)
    spot[..., 50, 88:93] = 1  # right of the centre, by 40 pixels
    turned = changed(spot.expand(1, 3, 101, 101), {ANGLE: drawn}, ["rotation"])[0, 0]
    row, column = (turned * torch.arange(101.0)[:, None]).sum(), (turned * torch.arange(101.0)).sum()
    row, column = row / turned.sum() - 50, column / turned.sum() - 50
    assert math.degrees(math.atan2(-row, column)) == pytest.approx(degrees, abs=1)


def test_brightness_is_scaled_by_a_fifth_at_most(images: torch.Tensor) -> None:
    calm = images * 0.2 + 0.4
    for drawn, factor in ((0.0, 1 - MAX_BRIGHTNESS), (0.75, 1 + MAX_BRIGHTNESS / 2)):
        torch.testing.assert_close(changed(calm, {BRIGHTNESS: drawn}), calm * factor, atol=1e-3, rtol=0)


def test_the_hue_turns_colours_and_leaves_greys_and_brightness_alone(images: torch.Tensor) -> None:
    grey = images[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(changed(grey, {HUE: 0.0}), grey, atol=1e-3, rtol=0)
    calm = images * 0.2 + 0.4
    turned, luma = changed(calm, {HUE: 0.0}), torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((turned * luma).sum(1), (calm * luma).sum(1), atol=1e-3, rtol=0)
    assert (turned - calm).abs().max() > 0.01
    assert not torch.allclose(turned, changed(calm, {HUE: 1.0}), atol=0.01), "the other way round"


def test_the_width_of_the_blur_is_that_of_a_normal_number() -> None:
    spot = torch.zeros(1, 3, 41, 41)
    spot[..., 20, 20] = 1
    across = torch.arange(41.0) - 20

    def width(drawn: float) -> float:
        blurred = changed(spot, {BLUR: drawn}, ["blur"])[0, 0]
        assert blurred.sum() == pytest.approx(1, abs=1e-4)
        assert blurred[20, 20] == blurred.max()
        return float((blurred.sum(0) * across**2).sum().sqrt())

    # Of a standard normal number 15.87 % lie below -1, 84.13 % below 1.
    assert width(0.1587) == pytest.approx(1, abs=0.05)
    assert width(0.8413) == pytest.approx(1, abs=0.05)
    assert width(0.5) == pytest.approx(0, abs=1e-3)
    assert width(0.0) == pytest.approx(2, abs=0.1), "cut at two standard deviations"


def test_sharpening_adds_edges_to_half_of_the_images(images: torch.Tensor) -> None:
    calm = images * 0.2 + 0.4
    assert roughness(changed(calm, {SHARPEN: 0.49, EDGES: 0.9})) > 1.5 * roughness(calm)
    torch.testing.assert_close(changed(calm, {SHARPEN: 0.5, EDGES: 0.9}), calm, atol=1e-3, rtol=0)
    torch.testing.assert_close(changed(calm, {SHARPEN: 0.0, EDGES: 0.0}), calm, atol=1e-3, rtol=0)


def test_contrast_is_stretched_to_the_full_range_in_the_other_half(images: torch.Tensor) -> None:
    calm = images * 0.2 + 0.4
    stretched = changed(calm, {STRETCH: 0.49})
    assert stretched.amin(dim=(1, 2, 3)).tolist() == pytest.approx([0] * 4, abs=1e-3)
    assert stretched.amax(dim=(1, 2, 3)).tolist() == pytest.approx([1] * 4, abs=1e-3)
    torch.testing.assert_close(changed(calm, {STRETCH: 0.5}), calm, atol=1e-3, rtol=0)
    even = torch.full_like(calm, 0.3)
    torch.testing.assert_close(changed(even, {STRETCH: 0.0}), even, atol=1e-3, rtol=0)


def test_half_of_the_images_are_sharpened_and_half_stretched() -> None:
    drawn = draw(4000, torch.Generator().manual_seed(0))
    calm = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(4000, 3, 8, 8) * 0.2 + 0.4
    for name in ("sharpness", "contrast"):
        touched = ((augment(calm, drawn, [name]) - calm).abs().amax(dim=(1, 2, 3)) > 1e-4).float().mean()
        assert float(touched) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ALL)
def test_only_what_is_chosen_is_done(name: Augmentation, images: torch.Tensor) -> None:
    strong = dict.fromkeys(range(DRAWS), 0.3) | {H_FLIP: 0.7, V_FLIP: 0.7}
    calm = images * 0.2 + 0.4
    alone = changed(calm, strong, [name])
    assert not torch.allclose(alone, calm, atol=1e-3)
    assert torch.equal(changed(calm, strong, []), calm)
    others = [other for other in ALL if other != name]
    assert not torch.allclose(changed(calm, strong, others), changed(calm, strong), atol=1e-3)


def test_the_covered_share_survives() -> None:
    cells = (torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    floor = cells.repeat_interleave(16, 2).repeat_interleave(16, 3).expand(-1, 3, -1, -1).contiguous()
    drawn = draw(8, torch.Generator().manual_seed(2))
    change = augment(floor, drawn, GEOMETRIC).mean(dim=(1, 2, 3)) - floor.mean(dim=(1, 2, 3))
    assert change.abs().max() < 0.1


def test_an_image_does_not_depend_on_its_batch(images: torch.Tensor) -> None:
    draws = draw(len(images), torch.Generator().manual_seed(3))
    alone = torch.cat([augment(images[i : i + 1], draws[i : i + 1], ALL) for i in range(len(images))])
    together = augment(images, draws, ALL)
    torch.testing.assert_close(alone, together)
    assert together.min() >= 0
    assert together.max() <= 1
    assert not torch.allclose(together, images, atol=0.05)


def test_equal_generators_draw_equal_numbers() -> None:
    first, second, other = (draw(5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == (5, DRAWS)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


SIDE = 200


def ellipse(box: tuple[float, float, float, float]) -> torch.Tensor:
    """Draw a cell that fills its box."""
    x1, y1, x2, y2 = box
    places = torch.arange(SIDE) + 0.5
    across, down = (places - (x1 + x2) / 2) / ((x2 - x1) / 2), (places - (y1 + y2) / 2) / ((y2 - y1) / 2)
    return ((across**2)[None] + (down**2)[:, None] <= 1).float().expand(1, 3, SIDE, SIDE)


def found(image: torch.Tensor) -> list[int]:
    rows, columns = torch.where(image[0, 0] > 0.5)
    return [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]


@pytest.mark.parametrize("seed", range(12))
def test_boxes_follow_their_cells(seed: int) -> None:
    box = (60.0, 85.0, 120.0, 105.0)
    draws = draw(1, torch.Generator().manual_seed(seed))
    turned, (moved,) = augment_boxes(ellipse(box), [torch.tensor([[*box, 7.0]])], draws, GEOMETRIC)
    assert moved[0, :4].tolist() == pytest.approx(found(turned), abs=1.5)
    assert moved[0, 4] == 7, "further columns stay with their box"


def test_flips_and_quarter_turns_move_boxes_exactly() -> None:
    boxes = [torch.tensor([[10.0, 20.0, 50.0, 30.0]])]
    for changes, expected in (
        ({H_FLIP: 0.5}, [150, 20, 190, 30]),
        ({V_FLIP: 0.5}, [10, 170, 50, 180]),
        ({QUARTER: 0.5}, [150, 170, 190, 180]),
    ):
        _, (moved,) = augment_boxes(torch.zeros(1, 3, SIDE, SIDE), boxes, draws_of(1, changes), GEOMETRIC)
        assert moved[0].tolist() == pytest.approx(expected, abs=1e-3)


def test_boxes_are_cut_at_the_edge_and_dropped_once_little_is_left() -> None:
    drawn = draws_of(1, {ANGLE: 1.0})  # 20 degrees; the right upper corner goes out of the picture
    corner, inside = [180.0, 0.0, 200.0, 20.0], [90.0, 90.0, 110.0, 110.0]
    below = [180.0, 50.0, 200.0, 70.0]
    _, (moved,) = augment_boxes(
        torch.zeros(1, 3, SIDE, SIDE), [torch.tensor([corner, inside, below])], drawn, ["rotation"]
    )
    assert len(moved) == 2
    assert moved[0].tolist() == pytest.approx(inside, abs=1e-3), "a round cell keeps its size"
    assert moved[1, 2] <= SIDE


def test_no_cell_comes_in_from_outside_without_its_box() -> None:
    edge = torch.full((1, 3, SIDE, SIDE), 0.5)
    edge[..., 0:4] = 1.0  # a bright border, whose reflection would show outside
    turned, _ = augment_boxes(edge, [torch.zeros(0, 4)], draws_of(1, {ANGLE: 1.0}), ["rotation"])
    corners = turned[0, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.tolist() == pytest.approx([float(edge.mean())] * 4, abs=1e-3)


def test_images_without_boxes_are_taken_along(images: torch.Tensor) -> None:
    boxes = [torch.zeros(0, 4), torch.tensor([[2.0, 2.0, 8.0, 8.0]]), torch.zeros(0, 4), torch.zeros(0, 4)]
    turned, moved = augment_boxes(images, boxes, draws_of(4, {}), ALL)
    assert [len(each) for each in moved] == [0, 1, 0, 0]
    torch.testing.assert_close(turned, images, atol=1e-4, rtol=0)


def test_photometric_draws_leave_boxes_where_they_are(images: torch.Tensor) -> None:
    boxes = [torch.tensor([[2.0, 2.0, 8.0, 8.0]])] * 4
    drawn = draw(4, torch.Generator().manual_seed(0))
    turned, moved = augment_boxes(images, boxes, drawn, PHOTOMETRIC)
    torch.testing.assert_close(turned, augment(images, drawn, PHOTOMETRIC), atol=1e-4, rtol=0)
    assert all(torch.allclose(each, boxes[0], atol=1e-3) for each in moved)
