import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from components.errors import SettingsError, TrainingError
from components.imaging import Preprocessing
from components.models.backbones import BACKBONES, Backbone
from components.models.classifier import Classifier, build_classifier
from components.models.weights import Weights, state_digest
from components.settings import TrainingSettings
from components.training.checkpoint import FileCheckpoint
from components.training.data import Part, TrainingData, load_data
from components.training.fit import Epoch, Fit, Fitted
from components.training.ranks import Ranks

ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture
def data(cultures) -> TrainingData:
    return load_data(cultures.store, cultures.split_id, Preprocessing(size=32), cultures.home / "cache")


def make(data: TrainingData, rate: float = 3e-3, ranks: Ranks = ALONE, **changes: Any) -> Fit:
    settings = TrainingSettings(**{"backbone": "tiny", "batch_size": 7, "epochs": 4, "patience": 50, **changes})
    model = build_classifier("tiny", settings.dropout, Weights("none"), settings.seed)
    return Fit(model, data, settings, rate, Preprocessing(), ranks, pretrained=False)


@pytest.mark.usefixtures("tiny_backbone")
class TestFit:
    def test_it_learns(self, data: TrainingData) -> None:
        fitted = make(data, epochs=25).run()
        assert fitted.best.validation_accuracy >= 0.75
        assert fitted.history[-1].train_loss < 0.7 * fitted.history[0].train_loss

    def test_equal_seeds_end_in_equal_weights_and_others_do_not(self, data: TrainingData) -> None:
        digests = [state_digest(make(data, seed=seed).run().state) for seed in (0, 0, 1)]
        assert digests[0] == digests[1] != digests[2]

    def test_logits_are_those_that_the_epoch_was_judged_by(self, data: TrainingData) -> None:
        fit = make(data)
        fitted = fit.run()
        fit.model.load_state_dict(fitted.state)
        logits = fit.logits(data.validation)
        assert (logits.shape, logits.dtype) == ((len(data.validation), 4), torch.float64)
        right = (logits.argmax(dim=1) == data.validation.labels).double().mean()
        assert float(right) == pytest.approx(fitted.best.validation_accuracy)
        weights = data.class_weights.double()
        loss = functional.cross_entropy(logits, data.validation.labels, weights)
        assert float(loss) == pytest.approx(fitted.best.validation_loss, rel=1e-5)

    def test_it_leaves_torch_as_it_was(self, data: TrainingData) -> None:
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        make(data, epochs=1).run()
        assert torch.rand(1) == expected
        assert not torch.are_deterministic_algorithms_enabled()

    @pytest.mark.parametrize("stops", [[1], [2, 3]])
    def test_a_fit_that_goes_on_ends_bit_for_bit_where_an_undisturbed_one_does(
        self, stops: list[int], data: TrainingData, tmp_path: Path
    ) -> None:
        whole = make(data).run()
        for stop in stops:
            with pytest.raises(KeyboardInterrupt):
                make(data).run(FileCheckpoint(tmp_path), interrupt_after(stop))
        told: list[int] = []
        resumed = make(data).run(FileCheckpoint(tmp_path), lambda epoch: told.append(epoch.epoch))
        assert state_digest(resumed.state) == state_digest(whole.state)
        assert figures(resumed) == figures(whole)
        assert resumed.resumed == stops[-1]
        assert told == [1, 2, 3, 4], "what was taken from the checkpoint is told as well"

    def test_a_finished_fit_is_given_back_from_its_checkpoint(self, data: TrainingData, tmp_path: Path) -> None:
        whole = make(data).run(FileCheckpoint(tmp_path))
        again = make(data).run(FileCheckpoint(tmp_path))
        assert again.resumed == len(again.history) == 4
        assert again.history == whole.history
        assert state_digest(again.state) == state_digest(whole.state)

    def test_the_weights_are_those_of_the_best_epoch(self, data: TrainingData) -> None:
        fit = make(data, rate=2e-2, epochs=8, schedule="constant")
        fitted = fit.run()
        assert fitted.best.validation_loss == min(epoch.validation_loss for epoch in fitted.history)
        assert fitted.best.epoch < len(fitted.history), "else this test shows nothing"
        fit.model.load_state_dict(fitted.state)
        assert weighted_loss(fit.model.eval(), data) == pytest.approx(fitted.best.validation_loss, rel=1e-4)

    def test_it_stops_once_patience_is_over(self, data: TrainingData) -> None:
        fitted = make(data, rate=1e-12, epochs=30, patience=2, schedule="constant", augmentations=()).run()
        assert len(fitted.history) - fitted.best.epoch == 2

    def test_a_loss_that_is_no_number_names_the_learning_rate(self, data: TrainingData) -> None:
        with pytest.raises(TrainingError, match=r"diverged in epoch \d at learning rate 1e\+30"):
            make(data, rate=1e30).run()

    def test_the_rate_rises_in_the_first_epoch_and_falls_to_zero(self, data: TrainingData) -> None:
        fit = make(data, rate=1.0, epochs=10)
        rates = [fit._rate(step) for step in range(10 * fit.batches)]
        assert rates[0] < rates[fit.batches - 1] > rates[fit.batches]
        assert rates[fit.batches :] == sorted(rates[fit.batches :], reverse=True)
        assert rates[-1] < 0.01
        assert {make(data, rate=1.0, schedule="constant")._rate(step) for step in range(40)} == {1.0}

    def test_a_pretrained_backbone_learns_more_slowly_than_the_head(self, data: TrainingData) -> None:
        settings = TrainingSettings(backbone="tiny", backbone_rate=0.1, epochs=1, schedule="constant")
        model = build_classifier("tiny", 0.5, Weights("none"), 0)
        fit = Fit(model, data, settings, 1e-2, Preprocessing(), ALONE, pretrained=True)
        fit.run()
        assert [group["lr"] for group in fit.optimizer.param_groups] == pytest.approx([1e-3, 1e-2])
        assert isinstance(fit.optimizer, torch.optim.Adam)
        assert all(group["amsgrad"] and group["weight_decay"] == 1e-5 for group in fit.optimizer.param_groups)

    @pytest.mark.parametrize(("batch_size", "batches"), [(7, 4), (24, 1), (2, 12), (23, 2), (1000, 1)])
    def test_batches_are_as_even_as_can_be(self, batch_size: int, batches: int, data: TrainingData) -> None:
        assert make(data, batch_size=batch_size).batches == batches

    def test_three_images_in_batches_of_two_leave_none_alone(self, data: TrainingData) -> None:
        few = TrainingData(Part(data.train.images[:3], data.train.labels[:3]), data.validation)
        fit = make(few, batch_size=2, epochs=1)
        fit.run()
        assert fit.batches == 1

    def test_more_processes_than_a_batch_has_images_for_are_refused(self, data: TrainingData) -> None:
        with pytest.raises(SettingsError, match="processes 4 is too many for batches of 7"):
            make(data, ranks=Ranks(0, 4, torch.device("cpu")))


def test_frozen_statistics_do_not_move_but_their_layers_learn(data: TrainingData) -> None:
    body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU())
    model = Classifier(Backbone(lambda: body, channels=8), 0.5, frozen_norm=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = TrainingSettings(backbone="tiny", epochs=1)
    after = Fit(model, data, settings, 1e-2, Preprocessing(), ALONE, pretrained=True).run().state
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert "features.1.weight" in moved
    assert not moved & {"features.1.running_mean", "features.1.running_var", "features.1.num_batches_tracked"}


class Branched(nn.Module):
    """A backbone with an auxiliary branch."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.branch = nn.Conv2d(3, 8, 5, stride=2), nn.Linear(8, 6)

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        features = self.body(images).relu()
        return (features, self.branch(features.mean(dim=(2, 3)))) if self.training else features


@pytest.fixture
def branched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", Backbone(Branched, channels=8, auxiliary=6))


@pytest.mark.usefixtures("branched")
class TestAuxiliaryClassifier:
    def test_its_loss_counts_four_tenths_in_training_and_nothing_in_validation(self, data: TrainingData) -> None:
        fit = make(data, rate=1e-20, batch_size=1000, epochs=1, dropout=0.0, augmentations=(), schedule="constant")
        told = fit.run().best
        images, labels = data.train.images.permute(0, 3, 1, 2).float() / 127.5 - 1, data.train.labels
        with torch.no_grad():
            main, auxiliary = (
                float(functional.cross_entropy(logits, labels, data.class_weights))
                for logits in fit.model.train()(images)
            )
        assert told.train_loss == pytest.approx(main + 0.4 * auxiliary, rel=1e-4)
        assert told.validation_loss == pytest.approx(weighted_loss(fit.model.eval(), data), rel=1e-4)

    def test_it_learns_at_the_rate_of_the_head(self, data: TrainingData) -> None:
        settings = TrainingSettings(backbone="tiny", backbone_rate=0.1, epochs=1, schedule="constant")
        model = build_classifier("tiny", 0.5, Weights("none"), 0)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        fit = Fit(model, data, settings, 1e-2, Preprocessing(), ALONE, pretrained=True)
        after = fit.run().state
        assert all(not torch.equal(before[name], after[name]) for name in before if name.endswith("weight"))
        body, heads = (group["params"] for group in fit.optimizer.param_groups)
        assert {id(each) for each in heads} == {
            id(each) for each in (*model.head.parameters(), *model.auxiliary.parameters())
        }
        assert len(body) + len(heads) == len(list(model.parameters()))

    def test_a_fit_that_goes_on_ends_bit_for_bit_where_an_undisturbed_one_does(
        self, data: TrainingData, tmp_path: Path
    ) -> None:
        whole = make(data).run()
        with pytest.raises(KeyboardInterrupt):
            make(data).run(FileCheckpoint(tmp_path), interrupt_after(2))
        resumed = make(data).run(FileCheckpoint(tmp_path))
        assert resumed.resumed == 2
        assert state_digest(resumed.state) == state_digest(whole.state)


@pytest.mark.usefixtures("branched")
class TestPieces:
    @pytest.mark.parametrize("count", [31, 32, 33, 34])
    def test_every_process_computes_as_many_pieces_as_the_others(self, count: int, data: TrainingData) -> None:
        batch, settings = torch.arange(count), {"batch_size": 8, "micro_batch": 4}
        fits = [make(data, ranks=Ranks(rank, 2, torch.device("cpu")), **settings) for rank in range(2)]
        shares = [fit._pieces(batch, 2) for fit in fits]
        assert len(shares[0]) == len(shares[1]) >= count // 8
        assert sorted(torch.cat([*shares[0], *shares[1]]).tolist()) == batch.tolist()
        assert all(2 <= len(piece) <= 4 for pieces in shares for piece in pieces)

    @pytest.mark.parametrize("micro_batch", [2, 3, 100])
    def test_a_batch_computed_in_pieces_teaches_the_same(self, micro_batch: int, data: TrainingData) -> None:
        whole = make(data, dropout=0.0).run()
        pieces = make(data, dropout=0.0, micro_batch=micro_batch).run()
        for one, other in zip(figures(whole), figures(pieces), strict=True):
            assert other == pytest.approx(one, rel=1e-4)

    def test_no_piece_is_larger_than_told_or_of_a_single_image(self, data: TrainingData) -> None:
        seen: list[int] = []
        fit = make(data, micro_batch=3, epochs=1)
        fit.model.register_forward_pre_hook(lambda model, given: seen.append(len(given[0])))
        fit.run()
        assert sum(seen) == len(data.train) + len(data.validation)
        assert (min(seen), max(seen)) == (2, 3)


def interrupt_after(number: int) -> Any:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == number:
            raise KeyboardInterrupt

    return on_epoch


def figures(fitted: Fitted) -> list[tuple[float, float, float]]:
    return [(epoch.train_loss, epoch.validation_loss, epoch.validation_accuracy) for epoch in fitted.history]


@torch.no_grad()
def weighted_loss(model: nn.Module, data: TrainingData) -> float:
    images = data.validation.images.permute(0, 3, 1, 2).float() / 127.5 - 1
    loss = functional.cross_entropy(model(images), data.validation.labels, data.class_weights)
    assert math.isfinite(loss)
    return float(loss)
