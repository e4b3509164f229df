"""What do augmentation and equalisation cost, and what do they look like?

python benchmarks/augmentation.py                     milliseconds an image, of one thread
python benchmarks/augmentation.py --sheets docs       docs/augmentations.png and docs/equalisation.png
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from components.culture import Modality
from components.datasets.simulation import render
from components.equalisation import equalise, equalise_locally
from components.imaging import resize
from components.settings import GEOMETRIC, PHOTOMETRIC, Augmentation
from components.training.augmentation import DRAWS, augment, augment_boxes, draw

SIDE, TILE, GAP = 300, 200, 2
ALL = GEOMETRIC + PHOTOMETRIC
STUDY = tuple(name for name in ALL if name != "quarter_turn")
# Which draw does what, in the order of components/training/augmentation.py.
H_FLIP, V_FLIP, QUARTER, ANGLE, BRIGHTNESS, HUE, BLUR, SHARPEN, EDGES, STRETCH = range(DRAWS)
SHOWN: list[tuple[str, tuple[Augmentation, ...], dict[int, float]]] = [
    ("before", (), {}),
    ("rotation -20 degrees", ("rotation",), {ANGLE: 0.0}),
    ("rotation +20 degrees", ("rotation",), {ANGLE: 1.0}),
    ("horizontal flip", ("horizontal_flip",), {H_FLIP: 0.9}),
    ("vertical flip", ("vertical_flip",), {V_FLIP: 0.9}),
    ("quarter turn", ("quarter_turn",), {QUARTER: 0.3}),
    ("brightness x 0.8", ("colour_jitter",), {BRIGHTNESS: 0.0}),
    ("brightness x 1.2", ("colour_jitter",), {BRIGHTNESS: 1.0}),
    ("hue -0.05 of the circle", ("colour_jitter",), {HUE: 0.0}),
    ("hue +0.05 of the circle", ("colour_jitter",), {HUE: 1.0}),
    ("blur, 1 pixel", ("blur",), {BLUR: 0.8413}),
    ("blur, 2 pixels", ("blur",), {BLUR: 0.9773}),
    ("sharpness: edges x 2", ("sharpness",), {SHARPEN: 0.0, EDGES: 0.5}),
    ("sharpness: edges x 3", ("sharpness",), {SHARPEN: 0.0, EDGES: 1.0}),
    ("contrast stretched", ("contrast",), {STRETCH: 0.0}),
]
TOGETHER = 3


def measure(count: int = 32) -> None:
    images, draws = torch.rand(count, 3, SIDE, SIDE), draw(count, torch.Generator().manual_seed(0))
    for label, chosen in [(name, (name,)) for name in ALL] + [("the study's seven", STUDY), ("all", ALL)]:
        report(label, lambda chosen=chosen: augment(images, draws, chosen), count)
    picture = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), dtype=np.uint8)
    report("equalise, 3 megapixels", lambda: equalise(picture), 1)
    report("clahe, 3 megapixels", lambda: equalise_locally(picture), 1)


def report(label: str, work: Callable[[], object], count: int) -> None:
    times = []
    for _ in range(5):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    print(f"{label:24} {1000 * min(times) / count:6.1f} ms of processor an image")


def sheet_of_augmentations() -> Image.Image:
    picture = render(0.45, Modality.SINGLE_STACK, np.random.default_rng(5), abnormal=1)
    # A warm light, as some microscopes have it: on greys a turn of the hue would not show.
    tinted = np.stack([picture.image * share for share in (1.0, 0.93, 0.8)], axis=-1).round().astype(np.uint8)
    factor = SIDE / picture.image.shape[0]
    (box,) = picture.boxes
    corners = torch.tensor([[box.x1, box.y1, box.x2, box.y2]]) * factor
    image = torch.from_numpy(resize(tinted, SIDE)).permute(2, 0, 1)[None].float() / 255
    tiles = [tile(image, corners, label, chosen, neutral(changes)) for label, chosen, changes in SHOWN]
    random = draw(TOGETHER, torch.Generator().manual_seed(3))
    tiles += [tile(image, corners, f"all together, {n + 1}", ALL, random[n : n + 1]) for n in range(TOGETHER)]
    return page(tiles, columns=6)


def neutral(changes: dict[int, float]) -> torch.Tensor:
    draws = torch.tensor([[0.0, 0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.99, 0.0, 0.99]])
    for place, value in changes.items():
        draws[0, place] = value
    return draws


def tile(
    image: torch.Tensor, corners: torch.Tensor, label: str, chosen: tuple[Augmentation, ...], draws: torch.Tensor
) -> Image.Image:
    turned, (moved,) = augment_boxes(image, [corners.float()], draws, chosen)
    shown = Image.fromarray((turned[0].permute(1, 2, 0) * 255).round().byte().numpy())
    pen = ImageDraw.Draw(shown)
    for x1, y1, x2, y2 in moved.tolist():
        pen.rectangle((x1, y1, x2 - 1, y2 - 1), outline=(255, 255, 255), width=2)
    return labelled(shown, label)


def sheet_of_equalisation() -> Image.Image:
    ways: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
        ("raw", lambda image: image),
        ("equalised", equalise),
        ("CLAHE", equalise_locally),
    ]
    tiles = []
    for name, way in ways:
        for seed, confluence in enumerate((0.2, 0.5, 0.7, 0.95)):
            picture = render(confluence, Modality.MULTI_STACK, np.random.default_rng(seed))
            shown = way(np.repeat(picture.image[..., np.newaxis], 3, axis=2))
            tiles.append(labelled(Image.fromarray(shown), f"{name}, {picture.confluence:.0%}"))
    return page(tiles, columns=4)


def labelled(picture: Image.Image, label: str) -> Image.Image:
    small = picture.resize((TILE, TILE), Image.Resampling.LANCZOS)
    ImageDraw.Draw(small).text((5, 4), label, fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    return small


def page(tiles: list[Image.Image], columns: int) -> Image.Image:
    step = TILE + GAP
    whole = Image.new("RGB", (columns * step - GAP, -(-len(tiles) // columns) * step - GAP), (255, 255, 255))
    for number, each in enumerate(tiles):
        whole.paste(each, (number % columns * step, number // columns * step))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheets", type=Path, help="folder that gets the two pictures")
    folder = parser.parse_args().sheets
    if folder is None:
        torch.set_num_threads(1)
        measure()
        return
    # Few colours are enough for a page in the documentation, and halve it.
    sheet_of_augmentations().quantize(96).save(folder / "augmentations.png", optimize=True)
    sheet_of_equalisation().quantize(48).save(folder / "equalisation.png", optimize=True)


if __name__ == "__main__":
    main()
