"""A detector learns, goes on where it was killed, and takes images without a box."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.boxes import Boxes, average_precision, match
from components.errors import DataError, SettingsError, TrainingError
from components.models.weights import Weights, state_digest
from components.settings import DetectionSettings, TrainingSettings
from components.training.boxed import ABNORMAL, OTHER, BoxedPart
from components.training.checkpoint import FileCheckpoint
from components.training.detection import Epoch, FittedDetector, fit_detector

SIDE = 64
NO_BOX = np.zeros((0, 4))


def make_part(images: int, seed: int, *, others: bool = True) -> BoxedPart:
    """Bright squares are abnormal, dark ones are not; every third image has none of either."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(110, 140, (images, SIDE, SIDE, 3)).astype(np.uint8)
    corners, abnormal = [], []
    for number, picture in enumerate(pictures):
        kinds = [] if number % 3 == 2 else [True, False] if others else [True]
        rows = []
        for place, is_abnormal in enumerate(kinds):
            x, y = rng.integers(0, SIDE // 2 - 18), rng.integers(0, SIDE - 18)
            x += place * SIDE // 2
            picture[y : y + 18, x : x + 18] = 250 if is_abnormal else 5
            rows.append((x / SIDE, y / SIDE, (x + 18) / SIDE, (y + 18) / SIDE))
            abnormal.append(is_abnormal)
        corners.append(np.array(rows).reshape(-1, 4))
    return BoxedPart.of(pictures, Boxes.of(corners), np.array(abnormal, bool))


@pytest.fixture(scope="module")
def train() -> BoxedPart:
    return make_part(24, 0)


@pytest.fixture(scope="module")
def validation() -> BoxedPart:
    return make_part(9, 1)


def fit(train: BoxedPart, validation: BoxedPart, **given: Any) -> FittedDetector:
    about = {name: given.pop(name) for name in ("checkpoint", "on_epoch") if name in given}
    settings = {"backbone": "tiny", "planes": "rgb", "image_size": SIDE, "batch_size": 8, "epochs": 3, "patience": 50}
    chosen = TrainingSettings(**{**settings, "learning_rate": 3e-3, **given})
    detection = DetectionSettings(width=16, depth=1, min_score=0.01)
    return fit_detector(train, validation, chosen, detection, weights=Weights("none"), **about)


def interrupt_after(epochs: int) -> Any:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch >= epochs:
            raise KeyboardInterrupt

    return on_epoch


class TestPart:
    def test_boxes_are_in_pixels_of_the_resized_image(self):
        corners = np.array([[0.0, 0.25, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]])
        boxes = Boxes.of([NO_BOX, corners])
        part = BoxedPart.of(np.zeros((2, 32, 32, 3), np.uint8), boxes, np.array([True, False]))
        assert part.boxes[0].shape == (0, 5)
        assert part.boxes[1].tolist() == [[0, 8, 16, 32, ABNORMAL], [16, 16, 32, 32, OTHER]]
        assert part.truth.image.tolist() == [1]
        assert part.counts == {"images": 2, "with_abnormal": 1, "abnormal": 1, "other": 1}
        assert part.has_others


@pytest.mark.usefixtures("tiny_pyramid")
class TestFit:
    def test_it_learns_to_tell_abnormal_cells_from_others(self, train: BoxedPart, validation: BoxedPart) -> None:
        fitted = fit(train, validation, epochs=40, learning_rate=1e-2, augmentations=())
        assert fitted.result.best.validation_average_precision > 0.8
        found = fitted.find(validation.images.numpy())
        right = match(validation.truth, found) >= 0
        area = average_precision(found.scores, right, len(validation.truth))
        assert area == pytest.approx(fitted.result.best.validation_average_precision)

    def test_the_best_epoch_is_the_one_that_finds_most(self, train: BoxedPart, validation: BoxedPart) -> None:
        result = fit(train, validation, epochs=6).result
        most = max(epoch.validation_average_precision for epoch in result.history)
        assert result.best.validation_average_precision == most

    def test_equal_seeds_end_in_equal_weights_and_others_do_not(self, train: BoxedPart, validation: BoxedPart) -> None:
        digests = [state_digest(fit(train, validation, seed=seed, epochs=1).result.state) for seed in (0, 0, 1)]
        assert digests[0] == digests[1] != digests[2]

    def test_a_fit_that_goes_on_ends_bit_for_bit_where_an_undisturbed_one_does(
        self, train: BoxedPart, validation: BoxedPart, tmp_path: Path
    ) -> None:
        whole = fit(train, validation).result
        with pytest.raises(KeyboardInterrupt):
            fit(train, validation, checkpoint=FileCheckpoint(tmp_path), on_epoch=interrupt_after(2))
        rest = fit(train, validation, checkpoint=FileCheckpoint(tmp_path)).result
        assert rest.resumed == 2
        assert state_digest(rest.state) == state_digest(whole.state)
        assert [epoch.train_loss for epoch in rest.history] == [epoch.train_loss for epoch in whole.history]

    def test_batches_without_a_single_box_are_learnt_from(self, validation: BoxedPart) -> None:
        first = make_part(1, 3)
        images = torch.cat([first.images, torch.full((11, SIDE, SIDE, 3), 120, dtype=torch.uint8)])
        corners = Boxes.of([first.truth.corners, *[NO_BOX] * 11])
        part = BoxedPart.of(images.numpy(), corners, np.ones(1, bool))
        result = fit(part, validation, batch_size=2, epochs=1).result
        assert np.isfinite(result.history[0].train_loss)

    def test_without_other_boxes_there_is_one_kind(self) -> None:
        part = make_part(6, 5, others=False)
        assert not part.has_others
        assert fit(part, part, epochs=1).model.kind.length == 1

    def test_a_part_without_an_abnormal_cell_is_refused(self, train: BoxedPart) -> None:
        none = BoxedPart.of(np.zeros((2, SIDE, SIDE, 3), np.uint8), Boxes.of([NO_BOX] * 2), np.zeros(0, bool))
        with pytest.raises(DataError, match="the validation part shows no abnormal cell on its 2 images"):
            fit(train, none)

    def test_it_asks_for_a_learning_rate(self, train: BoxedPart, validation: BoxedPart) -> None:
        with pytest.raises(SettingsError, match="learning_rate"):
            fit(train, validation, learning_rate=None)

    def test_a_rate_too_high_is_an_error_that_says_so(self, train: BoxedPart, validation: BoxedPart) -> None:
        with pytest.raises(TrainingError, match="diverged"):
            fit(train, validation, learning_rate=1e30, schedule="constant", gradient_clip=1e30, epochs=5)
