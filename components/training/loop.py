"""The loop over epochs that every fit shares: stopping, choosing the best, checkpoints, the learning rate."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from components.errors import TrainingError
from components.settings import TrainingSettings
from components.training.checkpoint import Checkpoint, decode
from components.training.ranks import Ranks

ORDER, DRAWS, DROPOUT = range(3)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one epoch of any fit came to; a fit adds what it validates by.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean of the loss over the epoch's augmented batches.
        validation_loss: The same loss on the validation part, nothing augmented.
        learning_rate: The head's rate at the epoch's last step.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    seconds: float
    learning_rate: float

    @property
    def cost(self) -> float:
        """What the best epoch has least of; finite."""
        return self.validation_loss

    @property
    def note(self) -> str:
        """What a person sees of it while the fit runs."""
        return f"loss {self.validation_loss:.3f}"

    @property
    def metrics(self) -> dict[str, float]:
        """The figures by name, as a tracking server takes them."""
        return {name: float(value) for name, value in asdict(self).items() if name != "epoch"}


Of = TypeVar("Of", bound=Outcome)


@dataclass(frozen=True)
class Result(Generic[Of]):
    """The outcome of a fit.

    Attributes:
        state: Weights of the best epoch.
        best: The epoch with the lowest cost.
        history: All epochs.
        resumed: Epochs that were not run, but taken from a checkpoint.
    """

    state: dict[str, Tensor]
    best: Of
    history: tuple[Of, ...]
    resumed: int


class Loop(ABC, Generic[Of]):
    """A fit, but for what an epoch trains and how it validates.

    Everything random hangs on the seed and the epoch, never on what was drawn before, so that a fit
    which goes on from a checkpoint needs no state of random generators.

    Args:
        model: Moved to the process's device.
        parameters: Groups of them, each with its share of the learning rate.
        batches: Steps of an epoch.
    """

    outcome: ClassVar[type[Any]]

    def __init__(
        self,
        model: nn.Module,
        parameters: Iterable[tuple[Iterable[nn.Parameter], float]],
        settings: TrainingSettings,
        learning_rate: float,
        ranks: Ranks,
        batches: int,
    ) -> None:
        self.settings, self.learning_rate, self.ranks, self.batches = settings, learning_rate, ranks, batches
        self.network = model
        self.optimizer = torch.optim.Adam(
            [{"params": list(group), "share": share} for group, share in parameters],
            lr=learning_rate,
            weight_decay=settings.weight_decay,
            amsgrad=True,
            fused=True,
        )
        self.history: list[Of] = []
        self.best_state: dict[str, Tensor] = {}

    @abstractmethod
    def _train(self, trained: nn.Module, epoch: int) -> float:
        """Train one epoch and give its mean loss."""

    @abstractmethod
    def _validate(self) -> dict[str, float]:
        """Give the fields of ``outcome`` that the validation part tells, ``validation_loss`` among them."""

    def run(self, checkpoint: Checkpoint | None = None, on_epoch: Callable[[Of], None] = lambda _: None) -> Result[Of]:
        """Train until no epoch gets better for ``settings.patience`` epochs, or there were enough of them.

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
            trained = self.ranks.wrap(self.network)
            while not self._finished():
                self._epoch(trained)
                if checkpoint is not None and self.ranks.leads:
                    checkpoint.save(self._state())
                on_epoch(self.history[-1])
        return Result(self.best_state, self._best(), tuple(self.history), resumed)

    def _best(self) -> Of:
        return min(self.history, key=lambda epoch: epoch.cost)

    def _finished(self) -> bool:
        done = len(self.history)
        return done >= self.settings.epochs or (done > 0 and done - self._best().epoch >= self.settings.patience)

    def _epoch(self, trained: nn.Module) -> None:
        started, number = time.perf_counter(), len(self.history) + 1
        train_loss = self._train(trained, number)
        self.ranks.agree_on_buffers(self.network)
        told = self._validate()
        if not math.isfinite(train_loss + told["validation_loss"]):
            raise TrainingError(
                f"training diverged in epoch {number} at learning rate {self.learning_rate:.3g}: the loss is no number "
                "any more; lower training.learning_rate or search.high"
            )
        seconds, rate = time.perf_counter() - started, self._rate(number * self.batches - 1)
        made: Of = self.outcome(
            epoch=number, train_loss=train_loss, **told, seconds=round(seconds, 3), learning_rate=rate
        )
        self.history.append(made)
        if self._best().epoch == number:
            self.best_state = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    def _pieces(self, batch: Tensor, least: int) -> tuple[Tensor, ...]:
        """Divide this process's share of a batch evenly into what is computed at once, none of less than so many.

        Every process has as many pieces, as statistics of batches that are taken over all processes wait for each.
        """
        largest, smallest = math.ceil(len(batch) / self.ranks.world), len(batch) // self.ranks.world
        most = self.settings.micro_batch or largest
        return torch.tensor_split(self.ranks.share(batch), max(1, min(math.ceil(largest / most), smallest // least)))

    @property
    def _at_once(self) -> int:
        """Images that are answered at once where nothing is learnt."""
        return min(self.settings.batch_size, self.settings.micro_batch or self.settings.batch_size)

    def _descend(
        self, trained: nn.Module, pieces: Sequence[Tensor], cost: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Take one step down the loss of a batch: its summed cost by its summed weight, over all processes.

        Sums are divided at the end, so that neither the number of processes nor that of the pieces changes anything.

        Args:
            trained: The network, as ``Ranks.wrap`` gives it.
            pieces: Numbers of the images that are this process's share, in pieces to be computed at once.
            cost: Gives the summed cost of a piece, and its weight.

        Returns:
            This process's part of the loss.
        """
        self.optimizer.zero_grad()
        sums = torch.zeros(2, device=self.ranks.device)
        for number, piece in enumerate(pieces, start=1):
            with nullcontext() if number == len(pieces) else self.ranks.apart(trained):
                total, weight = cost(piece)
                total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            sums += torch.stack([total.detach(), weight])
        weight = self.ranks.sum(sums[1].clone())
        weight = torch.where(weight > 0, weight, 1.0)
        for parameter in self.network.parameters():
            if parameter.grad is not None:
                # Gradients were averaged over the processes, but belong summed.
                parameter.grad.mul_(self.ranks.world / weight)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        return sums[0] / weight

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
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best_state,
            "history": [asdict(epoch) for epoch in self.history],
        }

    def _resume(self, checkpoint: Checkpoint | None) -> int:
        if checkpoint is None:
            return 0
        # One reads and tells the others, so that all go on from the same epoch.
        content = self.ranks.tell(checkpoint.content() if self.ranks.leads else None)
        if content is None:
            return 0
        state = decode(content)
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_state = state["best"]
        self.history = [self.outcome(**epoch) for epoch in state["history"]]
        return len(self.history)


def seed(*path: int) -> int:
    """Give the seed that belongs to a purpose, such as (seed, epoch, ORDER)."""
    return int(np.random.SeedSequence(path).generate_state(1, np.uint64)[0] >> 1)


def generator(*path: int) -> torch.Generator:
    """Give a random generator that hangs on a purpose alone; see ``seed``."""
    return torch.Generator().manual_seed(seed(*path))


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
