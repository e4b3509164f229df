"""Fit one model: the loop over epochs, in one process or as one of several."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from components.errors import SettingsError
from components.imaging import Preprocessing
from components.models.classifier import HEAD_SHARES, Classifier
from components.settings import TrainingSettings
from components.training.augmentation import augment, draw
from components.training.data import Part, TrainingData
from components.training.loop import DRAWS, DROPOUT, ORDER, Loop, Outcome, Result, generator, seed
from components.training.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class Epoch(Outcome):
    """What one epoch came to; losses are cross-entropies weighted by the balanced class weights of the train part."""

    validation_accuracy: float

    @property
    def note(self) -> str:
        """See ``Outcome``."""
        return f"validation accuracy {self.validation_accuracy:.2f}, loss {self.validation_loss:.3f}"


Fitted = Result[Epoch]


class Fit(Loop[Epoch]):
    """One fit of a classifier."""

    outcome = Epoch

    def __init__(
        self,
        model: Classifier,
        data: TrainingData,
        settings: TrainingSettings,
        learning_rate: float,
        preprocessing: Preprocessing,
        ranks: Ranks,
        *,
        pretrained: bool,
    ) -> None:
        self.data, self.model = data, model.to(ranks.device).to(memory_format=torch.channels_last)
        self.augmentations = settings.chosen_augmentations
        self.class_weights = data.class_weights.to(ranks.device)
        self.mean = torch.tensor(preprocessing.mean, device=ranks.device)[:, None, None]
        self.std = torch.tensor(preprocessing.std, device=ranks.device)[:, None, None]
        # As even as can be, and none of a single image, which has no statistics.
        batches = max(1, min(math.ceil(len(data.train) / settings.batch_size), len(data.train) // 2))
        if ranks.world > 1 and len(data.train) // batches < 2 * ranks.world:
            raise SettingsError(
                f"training.processes {ranks.world} is too many for batches of {settings.batch_size} and "
                f"{len(data.train)} training images: each process needs two images of every batch"
            )
        share = settings.backbone_rate if pretrained else 1.0
        heads = [each for name, each in self.model.named_parameters() if not name.startswith("features.")]
        parameters = [(self.model.features.parameters(), share), (heads, 1.0)]
        super().__init__(self.model, parameters, settings, learning_rate, ranks, batches)

    def _train(self, trained: nn.Module, epoch: int) -> float:
        trained.train()
        count, settings = len(self.data.train), self.settings
        order = torch.randperm(count, generator=generator(settings.seed, epoch, ORDER))
        draws = draw(count, generator(settings.seed, epoch, DRAWS))
        torch.manual_seed(seed(settings.seed, epoch, DROPOUT, self.ranks.rank))
        total = torch.zeros((), device=self.ranks.device)
        for number, batch in enumerate(torch.tensor_split(order, self.batches)):
            self._set_rate((epoch - 1) * self.batches + number)
            # None of a single image, which has no statistics.
            pieces = self._pieces(batch, 2)
            total += self._descend(trained, pieces, lambda piece: self._cost(trained, piece, draws))
        return float(self.ranks.sum(total)) / self.batches

    def _cost(self, trained: nn.Module, piece: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Give the summed loss of some training images, and the summed weight of their classes."""
        images = self._images(self.data.train, piece)
        if self.augmentations:
            images = augment(images, draws[piece], self.augmentations)
        return self._loss(trained, images, self.data.train.labels[piece])

    def _loss(self, trained: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        labels = labels.to(self.ranks.device)
        with self._precision():
            answer = trained(self._normalised(images))
        loss = torch.zeros((), device=self.ranks.device)
        for logits, share in zip(answer if isinstance(answer, tuple) else (answer,), HEAD_SHARES, strict=False):
            total = functional.cross_entropy(logits.float(), labels, self.class_weights, reduction="sum")
            loss = loss + share * total
        return loss, self.class_weights[labels].sum()

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Give loss and accuracy on the validation part, each image counted once over all processes."""
        self.model.eval()
        part, sums = self.data.validation, torch.zeros(3, dtype=torch.float64, device=self.ranks.device)
        for batch in torch.split(self.ranks.share(torch.arange(len(part))), self._at_once):
            labels = part.labels[batch].to(self.ranks.device)
            with self._precision():
                logits = self.model(self._normalised(self._images(part, batch))).float()
            loss = functional.cross_entropy(logits, labels, self.class_weights, reduction="sum")
            right = (logits.argmax(dim=1) == labels).sum()
            sums += torch.stack([loss.double(), self.class_weights[labels].sum().double(), right.double()])
        loss_sum, weight, right_sum = self.ranks.sum(sums).tolist()
        return {"validation_loss": loss_sum / weight, "validation_accuracy": right_sum / len(part)}

    @torch.no_grad()
    def logits(self, part: Part) -> Tensor:
        """Answer the images of a part, nothing augmented, with the model's present weights; float64 (N, 4)."""
        self.model.eval()
        answers = []
        for batch in torch.split(torch.arange(len(part)), self._at_once):
            with self._precision():
                answers.append(self.model(self._normalised(self._images(part, batch))).double().cpu())
        return torch.cat(answers)

    def _images(self, part: Part, chosen: Tensor) -> Tensor:
        """Give chosen images as float32 (N, 3, S, S) in 0..1, on this process's device."""
        return part.images[chosen].to(self.ranks.device).permute(0, 3, 1, 2).float() / 255

    def _normalised(self, images: Tensor) -> Tensor:
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
