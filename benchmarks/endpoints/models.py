"""The models that are served and the images that are sent, made once into a folder and kept there."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from endpoints.rivals.predictor import Predictor
from PIL import Image

from components.bundle import BUNDLE_FILE, KNOWN_IMAGE_FILE, MODEL_FILE, Bundle, KnownAnswer, file_digest, write_bundle
from components.culture import CLASS_NAMES, Modality
from components.datasets.simulation.picture import render
from components.imaging import Preprocessing
from components.novelty import NOVELTY_FILE, Familiar, describe

NAME = "confluence-single-stack"
SIDE = 1024
CONFLUENCES = (0.15, 0.4, 0.7, 0.95)
QUALITY = 90


def draw_images(folder: Path, side: int = SIDE) -> dict[str, list[Path]]:
    """Draw cultures as a microscope writes them: grey PNG, and colour JPEG of quality 90.

    Returns:
        Files by format.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[Path]] = {"JPEG": [], "PNG": []}
    for index, confluence in enumerate(CONFLUENCES):
        jpeg, png = folder / f"{side}-{index}.jpg", folder / f"{side}-{index}.png"
        if not png.exists():
            grey = Image.fromarray(
                render(confluence, Modality.SINGLE_STACK, np.random.default_rng(index), (side, side)).image
            )
            grey.convert("RGB").save(jpeg, quality=QUALITY)
            grey.save(png)
        files["JPEG"].append(jpeg)
        files["PNG"].append(png)
    return files


def make_bundle(folder: Path, backbone: str, size: int, *, novelty: bool = False) -> Path:
    """Export a randomly initialised classifier; what it answers does not matter here, how long it takes does.

    Args:
        folder: Where bundles are kept.
        backbone: Of the network.
        size: Side of its input.
        novelty: Whether it also tells if an image is like those of its training.
    """
    place = folder / f"{backbone}-{size}{'-novelty' if novelty else ''}"
    if (place / BUNDLE_FILE).exists():
        return place
    # torch comes in here alone, so that a measurement of given bundles does without it.
    from components.models.classifier import build_classifier
    from components.models.export import export_onnx
    from components.models.weights import Weights

    place.mkdir(parents=True, exist_ok=True)
    export_onnx(build_classifier(backbone, 0.5, Weights("none"), seed=0), size, place / MODEL_FILE)
    picture = render(0.5, Modality.SINGLE_STACK, np.random.default_rng(9), (256, 256)).image
    Image.fromarray(picture).save(place / KNOWN_IMAGE_FILE)
    files = [MODEL_FILE, KNOWN_IMAGE_FILE]
    if novelty:
        _familiar().write(place / NOVELTY_FILE)
        files.append(NOVELTY_FILE)
    write_bundle(place, _describe(place, backbone, size, files))
    return place


def _familiar() -> Familiar:
    rng = np.random.default_rng(0)
    pictures = [render(float(share), Modality.SINGLE_STACK, rng).image for share in np.linspace(0.05, 0.98, 60)]
    described = np.stack([describe(np.repeat(each[..., np.newaxis], 3, axis=2)) for each in pictures])
    return Familiar.fit(described[::2], described[1::2])


def _describe(place: Path, backbone: str, size: int, files: list[str]) -> Bundle:
    bundle = Bundle(
        model_name=NAME,
        modality=Modality.SINGLE_STACK,
        backbone=backbone,
        classes=CLASS_NAMES,
        preprocessing=Preprocessing(size=size),
        temperature=1.0,
        min_confidence=0.0,
        known=KnownAnswer(probabilities=(0.25,) * 4),
        data_version="d" * 64,
        split_id="5" * 64,
        code_version="benchmark",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        metrics={},
        files={each: file_digest(place / each) for each in files},
    )
    # The known answer is asked of the model itself, which reads its preprocessing from the bundle.
    write_bundle(place, bundle)
    known = Predictor(place).answer((place / KNOWN_IMAGE_FILE).read_bytes())["probabilities"]
    return bundle.model_copy(update={"known": KnownAnswer(probabilities=tuple(known))})
