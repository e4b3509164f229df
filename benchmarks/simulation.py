"""How fast are simulated cultures drawn, and what do they look like?

python benchmarks/simulation.py                       images per second and processor time of an image
python benchmarks/simulation.py --sheet SHEET.png     a contact sheet: both modalities over the growth curve
python benchmarks/simulation.py --compare FOLDER      contrast and sharpness beside a folder of real images
                                                      with labels.csv, such as MSCFLOW_REAL_DATA
"""

import argparse
import csv
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from components.culture import ConfluenceClass, Modality
from components.datasets.simulation import Picture, render, simulate
from components.events import observed

CONFLUENCES = (0.12, 0.3, 0.5, 0.7, 0.88, 0.98)


def measure(images: int) -> None:
    for side in (320, 480, 512):
        for modality in Modality:
            started = time.process_time()
            for index, confluence in enumerate(np.linspace(0.1, 0.97, 24)):
                render(float(confluence), modality, np.random.default_rng(index), (side, side))
            milliseconds = (time.process_time() - started) / 24 * 1000
            with tempfile.TemporaryDirectory() as folder, observed(lambda _: None):
                summary = simulate(Path(folder), images=images, modality=modality, size=(side, side))
            rate = images / summary.seconds
            print(
                f"{side} px {modality:12}  {milliseconds:5.1f} ms of processor an image  {rate:5.1f} images/s written"
            )


def sheet(path: Path, side: int = 204) -> None:
    page = Image.new("L", (len(CONFLUENCES) * (side + 2), len(Modality) * (side + 2)), 255)
    for row, modality in enumerate(Modality):
        for column, confluence in enumerate(CONFLUENCES):
            abnormal = int(modality is Modality.SINGLE_STACK and column in (2, 4))
            picture = render(confluence, modality, np.random.default_rng(column), abnormal=abnormal)
            page.paste(_tile(picture, side), (column * (side + 2), row * (side + 2)))
    # Forty-eight greys are enough for a page in the documentation, and halve it.
    page.quantize(48).save(path, optimize=True)


def _tile(picture: Picture, side: int) -> Image.Image:
    tile = Image.fromarray(picture.image)
    pen = ImageDraw.Draw(tile)
    for box in picture.boxes:
        pen.rectangle((box.x1, box.y1, box.x2 - 1, box.y2 - 1), outline=255, width=2)
    tile = tile.resize((side, side), Image.Resampling.LANCZOS)
    label = f"{picture.confluence:.0%}  class {ConfluenceClass.from_confluence(picture.confluence)}"
    ImageDraw.Draw(tile).text((5, 4), label, fill=255, stroke_width=1, stroke_fill=0)
    return tile


def compare(folder: Path) -> None:
    """Print, per source and class: mean grey, contrast (sd of what is finer than 10 px), sharpness, its skew."""
    found = defaultdict(list)
    with (folder / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["class"]:
                with Image.open(folder / row["file"]) as image:
                    found[row["source"], row["class"]].append(_figures(np.asarray(image.convert("L"))))
    for modality in Modality:
        for index, confluence in enumerate(np.linspace(0.05, 0.98, 40)):
            picture = render(float(confluence), modality, np.random.default_rng(index))
            label = str(int(ConfluenceClass.from_confluence(picture.confluence)))
            found[f"simulated {modality}", label].append(_figures(picture.image))
    print(f"{'source':24} class    n   mean  contrast  sharpness   skew")
    for (source, label), figures in sorted(found.items()):
        mean, contrast, sharpness, skew = np.mean(figures, axis=0)
        print(f"{source:24} {label:>5} {len(figures):4} {mean:6.0f} {contrast:9.1f} {sharpness:10.2f} {skew:6.2f}")


def _figures(image: np.ndarray) -> tuple[float, float, float, float]:
    grey = image.astype(np.float32)
    fine = grey - ndimage.gaussian_filter(grey, 10.0)
    edges = ndimage.laplace(ndimage.gaussian_filter(grey, 1.0))
    return float(grey.mean()), float(fine.std()), float(edges.std()), float(((fine / fine.std()) ** 3).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=120, help="images written in each measurement")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--compare", type=Path)
    options = parser.parse_args()
    if options.sheet:
        sheet(options.sheet)
    elif options.compare:
        compare(options.compare)
    else:
        measure(options.images)


if __name__ == "__main__":
    main()
