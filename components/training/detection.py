"""Fit one detector of abnormal cells."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import sigmoid_focal_loss

from components.boxes import Boxes, average_precision, match
from components.errors import DataError, SettingsError
from components.imaging import Preprocessing
from components.models.anchors import IGNORED, assign, encode
from components.models.detector import Detector, build_detector, gathered, strongest
from components.models.weights import Weights, find_weights, input_of
from components.settings import DetectionSettings, TrainingSettings
from components.training.augmentation import augment_boxes, draw
from components.training.boxed import BoxedPart
from components.training.checkpoint import Checkpoint
from components.training.loop import DRAWS, DROPOUT, ORDER, Loop, Outcome, Result, generator, seed
from components.training.ranks import Ranks, join_ranks

# Of smooth L1, in units of the offsets: below it the loss is a parabola.
_BETA = 1 / 9
# Of focal loss (Lin et al., 2017).
_ALPHA, _GAMMA = 0.25, 2.0


@dataclass(frozen=True, kw_only=True)
class Epoch(Outcome):
    """What one epoch came to; the loss is focal loss and smooth L1, each by the anchors on cells.

    Attributes:
        validation_average_precision: Of the abnormal cells, at the overlap ``detection.iou``.
    """

    validation_average_precision: float

    @property
    def note(self) -> str:
        """See ``Outcome``."""
        return f"validation AP {self.validation_average_precision:.2f}, loss {self.validation_loss:.3f}"

    @property
    def cost(self) -> float:
        """The best epoch finds most, whatever its loss, which goes on rising while the boxes get better."""
        return -self.validation_average_precision


@dataclass(frozen=True)
class FittedDetector:
    """A detector as its best epoch left it.

    Attributes:
        model: The network, its best weights loaded.
        preprocessing: What it must be shown.
        settings: How its boxes are thinned out.
        result: How the fit went.
    """

    model: Detector
    preprocessing: Preprocessing
    settings: DetectionSettings
    result: Result[Epoch]

    def find(self, images: NDArray[np.uint8]) -> Boxes:
        """Find abnormal cells.

        Args:
            images: Shape (N, S, S, 3), as ``components.imaging.arrange`` gives them.
        """
        return Eye(self.model, self.preprocessing, self.settings).find(torch.from_numpy(np.ascontiguousarray(images)))


def fit_detector(
    train: BoxedPart,
    validation: BoxedPart,
    settings: TrainingSettings,
    detection: DetectionSettings,
    *,
    weights: Weights | None = None,
    ranks: Ranks | None = None,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> FittedDetector:
    """Fit a detector, choosing the epoch by its average precision on the validation part.

    Args:
        train: What it learns from; images without a box are welcome.
        validation: What the epoch is chosen by, with at least one abnormal cell.
        settings: How to train; ``learning_rate`` must be given.
        detection: The detector's shape, and how its boxes are thinned out.
        weights: First weights of the backbone; by default those that ``settings.weights`` asks for.
        ranks: This process among those that train together; by default alone, on the GPU if there is one.
        checkpoint: Where the fit goes on from, and saves its state after each epoch.
        on_epoch: Told of each epoch; what it raises ends the fit.

    Raises:
        DataError: if a part holds no abnormal cell.
        TrainingError: if the loss diverges.
        SettingsError: if the backbone cannot look at several scales, or no learning rate is given.
    """
    weights = weights or find_weights(settings.backbone, settings.weights)
    with join_ranks() if ranks is None else nullcontext(ranks) as shared:
        fit = make_fit(train, validation, settings, detection, weights, shared)
        result = fit.run(checkpoint, on_epoch)
    fit.model.load_state_dict(result.state)
    return FittedDetector(fit.model.eval(), fit.eye.preprocessing, detection, result)


def make_fit(
    train: BoxedPart,
    validation: BoxedPart,
    settings: TrainingSettings,
    detection: DetectionSettings,
    weights: Weights,
    ranks: Ranks,
) -> "DetectorFit":
    """Make a fit that has yet to run; see ``fit_detector``."""
    if settings.learning_rate is None:
        raise SettingsError("training.learning_rate is not given; a detector's is not searched, so set it")
    for name, part in (("train", train), ("validation", validation)):
        if not len(part.truth):
            raise DataError(f"the {name} part shows no abnormal cell on its {len(part)} images; add images that do")
    prep = input_of(settings.model_copy(update={"image_size": train.size}), weights)
    classes = 2 if train.has_others or validation.has_others else 1
    model = build_detector(settings.backbone, train.size, classes, detection, weights, settings.seed)
    return DetectorFit(model, train, validation, settings, detection, prep, ranks, pretrained=weights.pretrained)


class Eye:
    """A detector with what it needs to look at images: their normalisation, and how its boxes are thinned out."""

    def __init__(self, model: Detector, prep: Preprocessing, settings: DetectionSettings) -> None:
        self.model, self.preprocessing, self.settings = model, prep, settings
        self.device = next(model.parameters()).device
        self.mean = torch.tensor(prep.mean, device=self.device)[:, None, None]
        self.std = torch.tensor(prep.std, device=self.device)[:, None, None]

    def scaled(self, images: Tensor) -> Tensor:
        """Give images uint8 (N, S, S, 3) as float32 (N, 3, S, S) in 0..1, on the model's device."""
        return images.to(self.device).permute(0, 3, 1, 2).float() / 255

    def normalised(self, images: Tensor) -> Tensor:
        """Give scaled images as the network wants them."""
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def thinned(self, logits: Tensor, offsets: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Give boxes (n, 4) and scores (n,) of each image, of the network's answers."""
        return strongest(*self.model.candidates(logits, offsets), self.settings)

    @torch.no_grad()
    def find(self, images: Tensor, batch: int = 16) -> Boxes:
        """Find abnormal cells in images uint8 (N, S, S, 3)."""
        self.model.eval()
        found: list[tuple[Tensor, Tensor]] = []
        for some in torch.split(images, batch):
            found += self.thinned(*self.model(self.normalised(self.scaled(some))))
        return gathered(found)


class DetectorFit(Loop[Epoch]):
    """One fit of a detector."""

    outcome = Epoch

    def __init__(
        self,
        model: Detector,
        train: BoxedPart,
        validation: BoxedPart,
        settings: TrainingSettings,
        detection: DetectionSettings,
        prep: Preprocessing,
        ranks: Ranks,
        *,
        pretrained: bool,
    ) -> None:
        self.model = model.to(ranks.device).to(memory_format=torch.channels_last)
        self.train, self.validation, self.detection = train, validation, detection
        self.eye = Eye(self.model, prep, detection)
        self.augmentations = settings.chosen_augmentations
        batches = math.ceil(len(train) / settings.batch_size)
        if len(train) // batches < ranks.world:
            raise SettingsError(
                f"training.processes {ranks.world} is too many for batches of {settings.batch_size} and "
                f"{len(train)} training images: each process needs an image of every batch"
            )
        trunk = set(self.model.trunk.parameters())
        own = [each for each in self.model.parameters() if each not in trunk]
        share = settings.backbone_rate if pretrained else 1.0
        parameters = [(self.model.trunk.parameters(), share), (own, 1.0)]
        super().__init__(self.model, parameters, settings, settings.learning_rate or 0.0, ranks, batches)

    def _train(self, trained: nn.Module, epoch: int) -> float:
        trained.train()
        count, number_of = len(self.train), self.settings.seed
        order = torch.randperm(count, generator=generator(number_of, epoch, ORDER))
        draws = draw(count, generator(number_of, epoch, DRAWS))
        torch.manual_seed(seed(number_of, epoch, DROPOUT, self.ranks.rank))
        total = torch.zeros((), device=self.ranks.device)
        for number, batch in enumerate(torch.tensor_split(order, self.batches)):
            self._set_rate((epoch - 1) * self.batches + number)
            pieces = self._pieces(batch, 1)
            total += self._descend(trained, pieces, lambda piece: self._cost(trained, piece, draws))
        return float(self.ranks.sum(total)) / self.batches

    def _cost(self, trained: nn.Module, piece: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Give the summed loss of some training images, and how many of their anchors are on cells."""
        images = self.eye.scaled(self.train.images[piece])
        boxes = [self.train.boxes[row].to(self.ranks.device) for row in piece.tolist()]
        if self.augmentations:
            images, boxes = augment_boxes(images, boxes, draws[piece], self.augmentations)
        with self._precision():
            logits, offsets = trained(self.eye.normalised(images))
        return self._loss(logits.float(), offsets.float(), boxes)

    def _loss(self, logits: Tensor, offsets: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Give the summed loss of all anchors, and how many of them are on cells."""
        # One row of nothing, so that there is something to look up where no image has a box.
        rows = pad_sequence([functional.pad(each, (0, 0, 0, 1)) for each in boxes], batch_first=True)
        counts = torch.tensor([len(each) for each in boxes], device=rows.device)
        present = torch.arange(rows.shape[1], device=rows.device) < counts[:, None]
        anchors = self.model.anchors
        chosen = assign(rows[..., :4], present, anchors)
        on_cell = chosen >= 0
        own = rows.gather(1, chosen.clamp(min=0)[..., None].expand(-1, -1, 5))
        wanted = functional.one_hot(own[..., 4].long(), logits.shape[-1]) * on_cell[..., None]
        focal = sigmoid_focal_loss(logits, wanted.float(), _ALPHA, _GAMMA)
        kinds = focal[chosen != IGNORED].sum()
        target = encode(own[on_cell][:, :4], anchors.expand(len(rows), -1, -1)[on_cell])
        places = functional.smooth_l1_loss(offsets[on_cell], target, beta=_BETA, reduction="sum")
        return kinds + places, on_cell.sum().float()

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Give loss and average precision on the validation part, each image looked at by one process."""
        self.model.eval()
        part, device = self.validation, self.ranks.device
        sums = torch.zeros(2, dtype=torch.float64, device=device)
        # A row an image, which its process fills; summed over the processes, the others' rows are filled too.
        counts = torch.zeros(len(part), dtype=torch.int64, device=device)
        table = torch.zeros(len(part), self.detection.max_boxes, 5, device=device)
        for batch in torch.split(self.ranks.share(torch.arange(len(part))), self._at_once):
            if not len(batch):  # more processes than images
                continue
            with self._precision():
                logits, offsets = self.model(self.eye.normalised(self.eye.scaled(part.images[batch])))
            boxes = [part.boxes[row].to(device) for row in batch.tolist()]
            sums += torch.stack(self._loss(logits.float(), offsets.float(), boxes)).double()
            for row, (found, scores) in zip(batch, self.eye.thinned(logits.float(), offsets.float()), strict=True):
                counts[row] = len(found)
                table[row, : len(found)] = torch.cat([found, scores[:, None]], dim=1)
        for each in (sums, counts, table):
            self.ranks.sum(each)
        return {
            "validation_loss": float(sums[0] / sums[1].clamp(min=1)),
            "validation_average_precision": self._precision_of(table, counts),
        }

    def _precision_of(self, table: Tensor, counts: Tensor) -> float:
        rows = [row[:count] for row, count in zip(table, counts.tolist(), strict=True)]
        found = gathered([(row[:, :4], row[:, 4]) for row in rows])
        truth = self.validation.truth
        right = match(truth, found, self.detection.iou) >= 0
        return average_precision(found.scores, right, len(truth)) or 0.0
