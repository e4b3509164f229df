"""Fit one model: the loop over epochs, in one process or as one of several."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from components.errors import SettingsError, TrainingError
from components.imaging import Preprocessing
from components.models.classifier import Classifier
from components.settings import TrainingSettings
from components.training.augmentation import augment, draw
from components.training.checkpoint import Checkpoint
from components.training.data import Part, TrainingData
from components.training.ranks import Ranks

_ORDER, _DRAWS, _DROPOUT = range(3)


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean of the weighted loss over the epoch's augmented batches.
        validation_loss: Weighted by the balanced class weights of the train part.
        learning_rate: The head's rate at the epoch's last step.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    learning_rate: float

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by name, as a tracking server takes them."""
        return {name: float(value) for name, value in asdict(self).items() if name != "epoch"}


@dataclass(frozen=True)
class Fitted:
    """The outcome of a fit.

    Attributes:
        state: Weights of the best epoch.
        best: The epoch with the lowest validation loss.
        history: All epochs.
        resumed: Epochs that were not run, but taken from a checkpoint.
    """

    state: dict[str, Tensor]
    best: Epoch
    history: tuple[Epoch, ...]
    resumed: int


class Fit:
    """One fit of a classifier.

    Everything random hangs on the seed and the epoch, never on what was drawn before, so that a fit
    which goes on from a checkpoint needs no state of random generators.
    """

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
        self.settings, self.learning_rate, self.ranks, self.data = settings, learning_rate, ranks, data
        self.share = settings.backbone_rate if pretrained else 1.0
        self.model = model.to(ranks.device).to(memory_format=torch.channels_last)
        self.optimizer = self._optimizer()
        self.photometric = preprocessing.planes == "rgb"
        self.class_weights = data.class_weights.to(ranks.device)
        self.mean = torch.tensor(preprocessing.mean, device=ranks.device)[:, None, None]
        self.std = torch.tensor(preprocessing.std, device=ranks.device)[:, None, None]
        # As even as can be, and none of a single image, which has no statistics.
        self.batches = max(1, min(math.ceil(len(data.train) / settings.batch_size), len(data.train) // 2))
        if ranks.world > 1 and len(data.train) // self.batches < 2 * ranks.world:
            raise SettingsError(
                f"training.processes {ranks.world} is too many for batches of {settings.batch_size} and "
                f"{len(data.train)} training images: each process needs two images of every batch"
            )
        self.history: list[Epoch] = []
        self.best_state: dict[str, Tensor] = {}

    def run(self, checkpoint: Checkpoint | None = None, on_epoch: Callable[[Epoch], None] = lambda _: None) -> Fitted:
        """Train until the validation loss stops falling.

        Args:
            checkpoint: Where the fit goes on from, and saves its state after each epoch.
            on_epoch: Told of each epoch once it is saved, those of a checkpoint included; what it raises ends
                the fit.

        Raises:
            TrainingError: if the loss is no longer finite.
            StorageError: if a checkpoint cannot be written.
        """
        with _reproducible(self.ranks.device):
            resumed = self._resume(checkpoint)
            for epoch in self.history:
                on_epoch(epoch)
            trained = self.ranks.wrap(self.model)
            while not self._finished():
                self._epoch(trained)
                if checkpoint is not None and self.ranks.leads:
                    checkpoint.save(self._state())
                on_epoch(self.history[-1])
        return Fitted(self.best_state, self._best(), tuple(self.history), resumed)

    def _optimizer(self) -> torch.optim.Optimizer:
        body, head = self.model.features.parameters(), self.model.head.parameters()
        return torch.optim.Adam(
            [{"params": list(body), "share": self.share}, {"params": list(head), "share": 1.0}],
            lr=self.learning_rate,
            weight_decay=self.settings.weight_decay,
            amsgrad=True,
            fused=True,
        )

    def _best(self) -> Epoch:
        return min(self.history, key=lambda epoch: epoch.validation_loss)

    def _finished(self) -> bool:
        done = len(self.history)
        return done >= self.settings.epochs or (done > 0 and done - self._best().epoch >= self.settings.patience)

    def _epoch(self, trained: nn.Module) -> None:
        started, number = time.perf_counter(), len(self.history) + 1
        train_loss = self._train(trained, number)
        self.ranks.agree_on_buffers(self.model)
        validation_loss, accuracy = self._validate()
        if not math.isfinite(train_loss + validation_loss):
            raise TrainingError(
                f"training diverged in epoch {number} at learning rate {self.learning_rate:.3g}: the loss is no number "
                "any more; lower training.learning_rate or search.high"
            )
        seconds, rate = time.perf_counter() - started, self._rate(number * self.batches - 1)
        self.history.append(Epoch(number, train_loss, validation_loss, accuracy, round(seconds, 3), rate))
        if self._best().epoch == number:
            self.best_state = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _train(self, trained: nn.Module, epoch: int) -> float:
        trained.train()
        count, settings = len(self.data.train), self.settings
        order = torch.randperm(count, generator=_generator(settings.seed, epoch, _ORDER))
        draws = draw(count, _generator(settings.seed, epoch, _DRAWS))
        torch.manual_seed(_seed(settings.seed, epoch, _DROPOUT, self.ranks.rank))
        total = torch.zeros((), device=self.ranks.device)
        for number, batch in enumerate(torch.tensor_split(order, self.batches)):
            self._set_rate((epoch - 1) * self.batches + number)
            mine = self.ranks.share(batch)
            images = self._images(self.data.train, mine)
            if settings.augment:
                images = augment(images, draws[mine], photometric=self.photometric)
            total += self._step(trained, images, self.data.train.labels[mine], self.data.train.labels[batch])
        return float(self.ranks.sum(total)) / self.batches

    def _step(self, trained: nn.Module, images: Tensor, labels: Tensor, of_all: Tensor) -> Tensor:
        """Take one step and give this process's part of the batch's loss."""
        labels = labels.to(self.ranks.device)
        with self._precision():
            logits = trained(self._normalised(images)).float()
        # Divided by the whole batch's weight, so that the number of processes changes nothing.
        weight = self.class_weights[of_all.to(self.ranks.device)].sum()
        loss = functional.cross_entropy(logits, labels, self.class_weights, reduction="sum") / weight
        self.optimizer.zero_grad()
        # Gradients are averaged over the processes, but belong summed.
        (loss * self.ranks.world).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def _validate(self) -> tuple[float, float]:
        """Give loss and accuracy on the validation part, each image counted once over all processes."""
        self.model.eval()
        part, sums = self.data.validation, torch.zeros(3, dtype=torch.float64, device=self.ranks.device)
        for batch in torch.split(self.ranks.share(torch.arange(len(part))), self.settings.batch_size):
            labels = part.labels[batch].to(self.ranks.device)
            with self._precision():
                logits = self.model(self._normalised(self._images(part, batch))).float()
            loss = functional.cross_entropy(logits, labels, self.class_weights, reduction="sum")
            right = (logits.argmax(dim=1) == labels).sum()
            sums += torch.stack([loss.double(), self.class_weights[labels].sum().double(), right.double()])
        loss_sum, weight, right_sum = self.ranks.sum(sums).tolist()
        return loss_sum / weight, right_sum / len(part)

    def _images(self, part: Part, chosen: Tensor) -> Tensor:
        """Give chosen images as float32 (N, 3, S, S) in 0..1, on this process's device."""
        return part.images[chosen].to(self.ranks.device).permute(0, 3, 1, 2).float() / 255

    def _normalised(self, images: Tensor) -> Tensor:
        return ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def _precision(self) -> AbstractContextManager[Any]:
        mixed = self.ranks.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.autocast("cuda", torch.bfloat16) if mixed else nullcontext()

    def _rate(self, step: int) -> float:
        """Learning rate of a step: constant, or one epoch's rise and a half cosine down to zero."""
        if self.settings.schedule == "constant":
            return self.learning_rate
        total = self.settings.epochs * self.batches
        rise = min(1.0, (step + 1) / self.batches)
        return self.learning_rate * rise * (1 + math.cos(math.pi * step / total)) / 2

    def _set_rate(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step) * group["share"]

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best_state,
            "history": [asdict(epoch) for epoch in self.history],
        }

    def _resume(self, checkpoint: Checkpoint | None) -> int:
        state = checkpoint.load() if checkpoint is not None else None
        if state is None:
            return 0
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_state = state["best"]
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        return len(self.history)


def _seed(*path: int) -> int:
    return int(np.random.SeedSequence(path).generate_state(1, np.uint64)[0] >> 1)


def _generator(*path: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*path))


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Leave torch's random state and its choice of algorithms as they were before the fit."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # On a GPU some operations have no deterministic form; there a fit is equal but for rounding.
        torch.use_deterministic_algorithms(device.type == "cpu")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
