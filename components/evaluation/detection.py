"""What a detector's boxes are worth, with intervals over vessels."""

from collections.abc import Sequence

from components.boxes import IOU, Boxes
from components.evaluation.metrics import Measured
from components.evaluation.resampling import RESAMPLES


def choose_threshold(truth: Boxes, found: Boxes, iou: float = IOU) -> float:
    """Give the score from which on boxes count, chosen on validation images."""
    raise NotImplementedError


def measure_detections(
    truth: Boxes,
    found: Boxes,
    groups: Sequence[str],
    *,
    threshold: float,
    iou: float = IOU,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Measured:
    """Measure found boxes against true ones.

    Args:
        truth: Every abnormal cell of the images.
        found: What the detector found in the same images, down to a low score.
        groups: The split group of each image.
        threshold: Score from which on a box counts, chosen on other images; see ``choose_threshold``.
        iou: Overlap from which on a found box counts as the true one.
        resamples: Bootstrap resamplings.
        seed: Of the bootstrap.

    Returns:
        By name ``recall``, ``false_discovery_rate``, ``average_precision``, ``f1``, ``froc`` (mean recall at 1/8 to
        8 false boxes an image), ``false_per_image``, ``clean_images`` (share of the images without abnormal cells in
        which none is found), and as the paper counts, the one best box of an image if its score is above 0.5:
        ``hit_rate`` and ``hit_false_discovery_rate``.
    """
    raise NotImplementedError
