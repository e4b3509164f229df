"""One trial of a search: a short fit at one learning rate."""

from collections.abc import Callable

from components.models.classifier import build_classifier
from components.models.weights import Weights, input_of
from components.settings import TrainingSettings
from components.training.data import TrainingData
from components.training.fit import Epoch, Fit, Fitted
from components.training.ranks import join_ranks


class Objective:
    """Fits that differ in their learning rate alone.

    Each is a small image of the final fit: the same data, order and augmentation, the whole course of
    the learning rate in fewer epochs, always in one process.
    """

    def __init__(self, data: TrainingData, training: TrainingSettings, epochs: int, weights: Weights) -> None:
        self.data, self.weights = data, weights
        self.settings = training.model_copy(update={"epochs": epochs, "patience": epochs})

    def __call__(self, learning_rate: float, on_epoch: Callable[[Epoch], None]) -> Fitted:
        """Fit at one rate.

        Args:
            learning_rate: Of the head, as in the final fit.
            on_epoch: Told of each epoch; what it raises ends the trial.

        Raises:
            TrainingError: if the loss diverges.
        """
        settings = self.settings
        prep = input_of(settings, self.weights)
        model = build_classifier(settings.backbone, settings.dropout, self.weights, settings.seed)
        with join_ranks() as ranks:
            pretrained = self.weights.pretrained
            return Fit(model, self.data, settings, learning_rate, prep, ranks, pretrained=pretrained).run(
                None, on_epoch
            )
