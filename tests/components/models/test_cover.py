import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from components.culture import ConfluenceClass, Modality
from components.datasets.simulation import render
from components.imaging import Preprocessing, arrange, normalise
from components.models.backbones import COVER_WEIGHTS, backbone
from components.models.classifier import build_classifier
from components.models.cover import STRIDE, Bands, CoveredShare, CoverNet
from components.models.export import export_onnx
from components.models.weights import Weights, find_weights


def shares(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


class TestBands:
    def test_logits_are_the_logs_of_probabilities(self) -> None:
        logits = Bands()(torch.linspace(0, 1, 41)[:, None])
        torch.testing.assert_close(logits.exp().sum(dim=1), torch.ones(41))
        torch.testing.assert_close(logits, functional.log_softmax(logits, dim=1))

    @pytest.mark.parametrize("share", [0.0, 0.2, 0.39, 0.41, 0.5, 0.59, 0.61, 0.79, 0.81, 1.0])
    def test_the_likeliest_band_is_the_one_that_the_share_falls_into(self, share: float) -> None:
        likeliest = int(Bands()(shares(share)).argmax()) + 1
        assert likeliest == ConfluenceClass.from_confluence(share)

    def test_an_edge_belongs_to_both_bands_alike(self) -> None:
        logits = Bands()(shares(0.6))[0].tolist()
        assert logits[1] == pytest.approx(logits[2], abs=1e-5)

    def test_the_farther_off_the_dearer(self) -> None:
        losses = functional.cross_entropy(
            Bands()(shares(0.3, 0.5, 0.7, 0.9)), torch.full((4,), 3), reduction="none"
        ).tolist()
        assert losses == sorted(losses, reverse=True)

    @pytest.mark.parametrize("steepness", [0.5, 20.0, 2000.0])
    def test_every_share_and_steepness_has_finite_gradients(self, steepness: float) -> None:
        bands, share = Bands(), shares(0.0, 0.4, 1.0).requires_grad_()
        bands.log_steepness.data.fill_(math.log(steepness))
        loss = functional.cross_entropy(bands(share), torch.tensor([3, 1, 0]))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        assert share.grad is not None and bands.log_steepness.grad is not None
        assert torch.isfinite(loss) and torch.isfinite(share.grad).all() and torch.isfinite(bands.log_steepness.grad)


@pytest.mark.parametrize("side", [32, 50, 128])
def test_the_map_has_a_place_for_every_four_pixels(side: int) -> None:
    assert CoverNet().eval()(torch.zeros(2, 3, side, side)).shape == (2, 1, -(-side // STRIDE), -(-side // STRIDE))


def test_the_share_is_the_mean_of_the_map() -> None:
    odds = torch.tensor([[[[-40.0, 40.0], [40.0, 0.0]]]])
    torch.testing.assert_close(CoveredShare()(odds), shares(0.625))


def test_shipped_weights_know_cultures_that_they_have_not_seen() -> None:
    network = build_classifier("cover_net", 0.0, find_weights("cover_net", "auto"), seed=0).eval()
    prep = Preprocessing(size=128, planes="texture", mean=backbone("cover_net").mean, std=backbone("cover_net").std)
    truth = [0.05, 0.25, 0.45, 0.65, 0.85, 0.98]
    pictures = [
        render(share, Modality.SINGLE_STACK, np.random.default_rng(number), (256, 256)).image
        for number, share in enumerate(truth)
    ]
    images = normalise(np.stack([arrange(np.stack([grey] * 3, axis=2), prep) for grey in pictures]), prep)
    with torch.no_grad():
        estimates = network.pool(network.features(torch.from_numpy(images)))[:, 0].numpy()
    assert np.abs(estimates - truth).mean() < 0.2
    assert np.corrcoef(estimates, truth)[0, 1] > 0.8


def test_shipped_weights_are_small_and_named_after_this_package() -> None:
    weights = find_weights("cover_net", "auto")
    assert weights.path == COVER_WEIGHTS and COVER_WEIGHTS.stat().st_size < 2**19
    assert weights.source.startswith("package mscflow")


def test_the_exported_model_answers_the_same(tmp_path: Path) -> None:
    model = build_classifier("cover_net", 0.0, find_weights("cover_net", "auto"), seed=0)
    assert export_onnx(model, 64, tmp_path / "model.onnx") < 1e-4


def test_it_also_starts_from_nothing() -> None:
    model = build_classifier("cover_net", 0.0, Weights("none"), seed=0)
    assert not model.frozen_norm
    assert model(torch.randn(2, 3, 40, 40)).shape == (2, 4)
