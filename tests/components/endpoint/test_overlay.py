"""Pictures of what the endpoint says: their sizes, their boxes, and their words, read off the pixels."""

import msgspec
import numpy as np
import pytest
from PIL import Image

from components.endpoint import overlay
from components.endpoint.overlay import BOX, DOUBTFUL_BOX, EDGE, GROUND, LEAST_SIDE, WARNING, draw
from components.endpoint.prediction import Cell, CellsPrediction, CulturePrediction, Prediction

SOURCE = {"model_version": "3", "data_version": "d", "digest": "e"}
SIZES = [(40, 40), (40, 900), (900, 40), (219, 225), (1000, 1300), (3648, 5472)]


def confluence(note: str | None = None) -> Prediction:
    return Prediction(
        confluence_class=3,
        name="subculture",
        probabilities={},
        confidence=0.8,
        decision=None if note else "subculture",
        abstain=bool(note),
        reason="unsure" if note else None,
        note=note,
        model="confluence-single-stack",
        **SOURCE,
    )


def cells(*boxes: tuple[float, float, float, float], note: str | None = None) -> CellsPrediction:
    return CellsPrediction(
        cells=tuple(Cell(box, 0.9) for box in boxes),
        count=len(boxes),
        min_score=0.5,
        width=0,
        height=0,
        abstain=bool(note),
        reason="out_of_distribution" if note else None,
        note=note,
        model="abnormal-cells",
        **SOURCE,
    )


def culture(*boxes: tuple[float, float, float, float]) -> CulturePrediction:
    return CulturePrediction(modality="single_stack", confluence=confluence(), abnormal_cells=cells(*boxes))


def plain(size: tuple[int, int], grey: int) -> np.ndarray:
    return np.full((*size, 3), grey, np.uint8)


def shows(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(picture) == colour).all(axis=2)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The rows of text, as they are wrapped."""
    rows: list[str] = []
    wrapped = overlay._wrapped

    def listen(text, font, width):
        found = wrapped(text, font, width)
        assert all(font.getlength(row) <= width for row in found)
        rows.extend(found)
        return found

    monkeypatch.setattr(overlay, "_wrapped", listen)
    return rows


@pytest.mark.parametrize("size", SIZES)
def test_the_image_stays_whole_and_the_words_stand_below_it(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    picture = draw(image, culture())
    scale = -(-LEAST_SIDE // max(size)) if max(size) < LEAST_SIDE else 1
    height, width = size[0] * scale, size[1] * scale
    left = (picture.width - width) // 2
    shown = np.asarray(picture)[:height:scale, left : left + width : scale]
    assert (shown == image).all()
    assert picture.width == max(width, LEAST_SIDE)
    below = np.asarray(picture)[height:]
    assert (below[:, 0] == GROUND).all()
    assert below.max() > 240


@pytest.mark.parametrize("grey", [0, 128, 255])
@pytest.mark.parametrize("size", SIZES)
def test_a_box_is_drawn_where_the_cell_is_with_a_dark_edge(size: tuple[int, int], grey: int) -> None:
    box = (0.25 * size[1], 0.25 * size[0], 0.75 * size[1], 0.75 * size[0])
    picture = draw(plain(size, grey), culture(box))
    scale = -(-LEAST_SIDE // max(size)) if max(size) < LEAST_SIDE else 1
    offset = (picture.width - size[1] * scale) // 2
    yellow = shows(picture, BOX)
    left, bottom = round(box[0] * scale) + offset, round(box[3] * scale)
    near = 2 + max(2, min(size) * scale // 300)
    middle = round((box[1] + box[3]) / 2 * scale)
    assert yellow[middle, left - near : left + near + 1].any()
    assert yellow[bottom - near : bottom + near + 1, round((box[0] + box[2]) / 2 * scale) + offset].any()
    assert not yellow[middle, (left + round(box[2] * scale) + offset) // 2]
    assert shows(picture, EDGE)[middle, left - 2 * near : left + 2 * near + 1].any()


def test_boxes_beyond_the_image_and_many_of_them_are_drawn() -> None:
    boxes = [(-50.0, -50.0, 30.0, 30.0), (90.0, 90.0, 500.0, 500.0), (10.0, 10.0, 10.0, 10.0)]
    boxes += [(float(x), float(y), x + 8.0, y + 8.0) for x in range(0, 90, 10) for y in range(0, 90, 10)]
    picture = draw(plain((100, 100), 128), cells(*boxes))
    assert shows(picture, BOX).any()


def test_boxes_of_a_model_that_abstains_look_doubtful() -> None:
    picture = draw(plain((600, 600), 0), cells((100.0, 100.0, 200.0, 200.0), note="it is black"))
    assert shows(picture, DOUBTFUL_BOX).any()
    assert not shows(picture, BOX).any()


def test_what_is_decided_is_said(said: list[str]) -> None:
    draw(plain((600, 900), 0), culture((1.0, 1.0, 9.0, 9.0)))
    assert said == [
        "class 3, decision: subculture, confidence 0.80",
        "1 abnormal cell, score 0.50 or more",
        "confluence-single-stack 3, abnormal-cells 3",
    ]


def test_who_abstains_says_why_in_a_colour_that_warns(said: list[str]) -> None:
    picture = draw(plain((600, 900), 0), confluence("the image is black"))
    assert said == [
        "abstains: the image is black",
        "most like class 3, subculture, confidence 0.80",
        "confluence-single-stack 3",
    ]
    assert shows(picture, WARNING).any()


def test_that_nobody_looked_for_cells_is_told_from_none_found(said: list[str]) -> None:
    draw(plain((600, 900), 0), msgspec.structs.replace(culture(), abnormal_cells=None))
    draw(plain((600, 900), 0), culture())
    assert (said[1], said[4]) == ("nobody looked for abnormal cells", "no abnormal cell")
    assert len(said) == 6


def test_one_reason_of_both_models_is_said_once(said: list[str]) -> None:
    both = msgspec.structs.replace(
        culture(), confluence=confluence("it is black"), abnormal_cells=cells(note="it is black")
    )
    draw(plain((600, 900), 0), both)
    assert said[2] == "abnormal cells: the same"
    draw(plain((600, 900), 0), cells(note="it is black"))
    assert said[4] == "abnormal cells: abstains: it is black"


def test_of_a_foreign_image_no_class_is_said(said: list[str]) -> None:
    foreign = msgspec.structs.replace(confluence("the image is black"), reason="out_of_distribution")
    draw(plain((600, 900), 0), foreign)
    assert said == ["abstains: the image is black", "confluence-single-stack 3"]


def test_a_long_reason_is_broken_into_rows_and_foreign_letters_do_no_harm(said: list[str]) -> None:
    reason = "unlike " * 40 + "Ж" + "x" * 300
    draw(plain((40, 40), 0), confluence(reason))
    assert "".join(said).replace(" ", "").startswith("abstains:" + "unlike" * 40 + "?" + "x" * 300)


def test_scores_do_not_lie_on_each_other_where_there_is_room() -> None:
    taken: list[overlay.Rectangle] = []
    for _ in range(4):
        taken.append(overlay._label_place((200, 200, 300, 300), (40, 20), (500, 500), taken))
    pairs = [(one, other) for index, one in enumerate(taken) for other in taken[:index]]
    assert not any(overlay._overlap(one, other) for one, other in pairs)
