"""A picture of what the endpoint says of an image: boxes of abnormal cells, and the verdict below.

The verdict stands on a ground of its own beside the image, and each box has a dark edge, so that both can be
read whatever the image shows. Small images are enlarged by a whole number; text grows with the picture.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from components.culture import Modality
from components.endpoint.prediction import AnyPrediction, Cell, CellsPrediction, CulturePrediction, Prediction

LEAST_SIDE = 480
GROUND = (24, 24, 28)
PLAIN, FAINT, WARNING = (255, 255, 255), (170, 170, 178), (255, 190, 60)
BOX, DOUBTFUL_BOX, EDGE = (255, 222, 0), (190, 190, 190), (0, 0, 0)

Rectangle = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Line(NamedTuple):
    """A sentence of the verdict.

    Attributes:
        size: Of its letters, 1 for the common one.
    """

    text: str
    colour: tuple[int, int, int] = PLAIN
    size: float = 1.0


def draw(image: NDArray[np.uint8], prediction: AnyPrediction) -> Image.Image:
    """Draw a prediction.

    Args:
        image: Upright, RGB, shape (height, width, 3), as ``components.imaging.decode`` gives it.
        prediction: Of any model.
    """
    picture, scale = _enlarged(Image.fromarray(image))
    found = _cells_of(prediction)
    if found is not None:
        _draw_boxes(picture, found, scale)
    return _with_caption(picture, [*_confluence_lines(prediction), *_cells_lines(prediction), *_sources(prediction)])


def why_not(answer: Prediction | CellsPrediction) -> str:
    """Say in a person's words why a model abstains."""
    return answer.note or (answer.reason or "it gives no reason").replace("_", " ")


def _cells_of(prediction: AnyPrediction) -> CellsPrediction | None:
    match prediction:
        case CulturePrediction():
            return prediction.abnormal_cells
        case CellsPrediction():
            return prediction
    return None


def _confluence_of(prediction: AnyPrediction) -> Prediction | None:
    match prediction:
        case CulturePrediction():
            return prediction.confluence
        case Prediction():
            return prediction
    return None


def _confluence_lines(prediction: AnyPrediction) -> Iterator[Line]:
    found = _confluence_of(prediction)
    if found is None:
        return
    if found.abstain:
        yield Line(f"abstains: {why_not(found)}", WARNING)
    # Of an image unlike all that it knows a model's class says nothing.
    if found.reason == "unsure":
        what = f"class {found.confluence_class}, {found.name}"
        yield Line(f"most like {what}, confidence {found.confidence:.2f}", FAINT, 0.8)
    elif not found.abstain:
        what = f"class {found.confluence_class}, decision: {found.decision}"
        yield Line(f"{what}, confidence {found.confidence:.2f}")


def _cells_lines(prediction: AnyPrediction) -> Iterator[Line]:
    found = _cells_of(prediction)
    if found is None:
        if isinstance(prediction, CulturePrediction) and prediction.modality == Modality.SINGLE_STACK:
            yield Line("nobody looked for abnormal cells", FAINT, 0.8)
        return
    if found.abstain:
        before = _confluence_of(prediction)
        same = before is not None and before.abstain and why_not(before) == why_not(found)
        yield Line("abnormal cells: " + ("the same" if same else f"abstains: {why_not(found)}"), WARNING)
    elif not found.count:
        yield Line("no abnormal cell")
    else:
        cells = "1 abnormal cell" if found.count == 1 else f"{found.count} abnormal cells"
        yield Line(f"{cells}, score {found.min_score:.2f} or more")


def _sources(prediction: AnyPrediction) -> Iterator[Line]:
    answers = [each for each in (_confluence_of(prediction), _cells_of(prediction)) if each is not None]
    yield Line(", ".join(f"{each.model} {each.model_version}" for each in answers), FAINT, 0.7)


def _enlarged(picture: Image.Image) -> tuple[Image.Image, int]:
    scale = max(1, -(-LEAST_SIDE // max(picture.size)))
    if scale == 1:
        return picture, 1
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST), scale


def _draw_boxes(picture: Image.Image, found: CellsPrediction, scale: int) -> None:
    pen = ImageDraw.Draw(picture)
    colour = DOUBTFUL_BOX if found.abstain else BOX
    thickness = max(2, round(min(picture.size) / 300))
    font = _font(max(13, round(min(picture.size) / 40)))
    for cell in found.cells:
        box = _on_picture(cell, scale, picture.size)
        for width, shade in ((thickness + 2 * max(1, thickness // 2), EDGE), (thickness, colour)):
            margin = (width - thickness) // 2
            pen.rectangle((box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin), None, shade, width)
    taken: list[Rectangle] = []
    for cell in found.cells:
        text = f"{cell.score:.2f}"
        place = _label_place(_on_picture(cell, scale, picture.size), _size(text, font), picture.size, taken)
        taken.append(place)
        pen.rectangle(place, colour, EDGE)
        pen.text(((place[0] + place[2]) / 2, (place[1] + place[3]) / 2), text, EDGE, font, anchor="mm")


def _on_picture(cell: Cell, scale: int, size: tuple[int, int]) -> Rectangle:
    x1, y1, x2, y2 = (scale * value for value in cell.box)
    left, top = min(max(x1, 0), size[0] - 2), min(max(y1, 0), size[1] - 2)
    return left, top, max(left + 1, min(x2, size[0] - 1)), max(top + 1, min(y2, size[1] - 1))


def _label_place(
    box: Rectangle, label: tuple[float, float], size: tuple[int, int], taken: list[Rectangle]
) -> Rectangle:
    """Beside a box, within the picture, and if possible on no other label."""
    (x1, y1, x2, y2), (width, height) = box, label
    corners = (
        (x1, y1 - height),
        (x1, y2),
        (x2 - width, y1 - height),
        (x2 - width, y2),
        (x2, y1),
        (x1 - width, y1),
        (x1, y1),
    )
    inside = [
        (x, y, x + width, y + height)
        for x, y in corners
        if 0 <= x <= size[0] - 1 - width and 0 <= y <= size[1] - 1 - height
    ]
    free = (each for each in inside if not any(_overlap(each, other) for other in taken))
    return next(free, inside[0] if inside else (0, 0, width, height))


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _size(text: str, font: Font) -> tuple[float, float]:
    left, top, right, bottom = font.getbbox(text)
    return right - left + 6, (bottom - top) * 1.5 + 2


def _with_caption(picture: Image.Image, lines: Iterable[Line]) -> Image.Image:
    width = max(picture.width, LEAST_SIDE)
    letters = max(18, round(min(width, 2 * picture.height + LEAST_SIDE) / 34))
    rows = [
        (row, line.colour, font)
        for line in lines
        for font in [_font(round(letters * line.size))]
        for row in _wrapped(line.text, font, width - letters)
    ]
    step = round(letters * 1.35)
    canvas = Image.new("RGB", (width, picture.height + step * len(rows) + letters // 2), GROUND)
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(canvas)
    for index, (row, colour, font) in enumerate(rows):
        pen.text((letters // 2, picture.height + step * (index + 0.65)), row, colour, font, anchor="lm")
    return canvas


def _wrapped(text: str, font: Font, width: float) -> list[str]:
    """Break a text into rows that fit; a word longer than a row is broken too."""
    rows = [""]
    for word in _printable(text).split():
        longer = f"{rows[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            rows[-1] = longer
            continue
        rows.append("")
        for letter in word:
            if font.getlength(rows[-1] + letter) > width:
                rows.append("")
            rows[-1] += letter
    return [row for row in rows if row]


def _printable(text: str) -> str:
    """What Pillow's own font has letters for."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
