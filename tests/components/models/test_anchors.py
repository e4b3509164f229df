import torch

from components.models.anchors import BACKGROUND, IGNORED, PER_PLACE, RATIOS, assign, decode, encode, make_anchors


def test_there_are_nine_around_each_place_of_each_level() -> None:
    anchors = make_anchors(64, (8, 32))
    assert anchors.shape == (PER_PLACE * (8 * 8 + 2 * 2), 4)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres[0].tolist() == [4.0, 4.0]
    assert centres[PER_PLACE].tolist() == [12.0, 4.0]  # along the row first, as the heads answer
    sizes = anchors[:, 2:] - anchors[:, :2]
    assert sizes[0].prod().sqrt().item() == 16.0
    torch.testing.assert_close(sizes[:3, 1] / sizes[:3, 0], torch.tensor(RATIOS))


def test_offsets_lead_back_to_the_box() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(2, 50, 4, generator=generator) * 20
    boxes[..., 2:] += boxes[..., :2] + 5
    anchors = make_anchors(64, (16,))[:50].expand(2, -1, -1)
    torch.testing.assert_close(decode(encode(boxes, anchors), anchors), boxes)


def test_an_anchor_stands_for_the_box_that_it_overlaps_most() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 22], [0, 0, 10, 45], [50, 50, 60, 60], [28, 0, 40, 10]])
    boxes = torch.tensor([[[0.0, 0, 10, 10], [30, 0, 34, 4]]])
    chosen = assign(boxes, torch.tensor([[True, True]]), anchors)
    # The second overlaps by 10/22, between the bounds; the last hardly, but nothing overlaps that box more.
    assert chosen.tolist() == [[0, IGNORED, BACKGROUND, BACKGROUND, 1]]


def test_what_fills_up_the_batch_is_no_box() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10]])
    boxes = torch.tensor([[[0.0, 0, 10, 10]]])
    assert assign(boxes, torch.tensor([[False]]), anchors).tolist() == [[BACKGROUND]]
