from pathlib import Path

import pytest

from components.bundle import file_digest
from components.errors import SettingsError
from components.imaging import Preprocessing
from components.models.champion import save_weights
from components.models.classifier import build_classifier
from components.models.detector import build_detector
from components.models.weights import Weights, input_of, state_digest
from components.settings import DetectionSettings, TrainingSettings

NONE = Weights("none")
SHOWN = Preprocessing(size=64, mean=(0.1, 0.2, 0.3))


def kept(model, folder: Path) -> Weights:
    """Keep a network's weights, as the registry does."""
    path = folder / "weights.safetensors"
    save_weights(model.state_dict(), path)
    return Weights("champion", path, file_digest(path), preprocessing=SHOWN)


@pytest.mark.parametrize("name", ["shufflenet_v2", "cover_net", "vit"])
def test_a_classifier_comes_back_whole_its_head_included(name: str, tmp_path: Path) -> None:
    champion = build_classifier(name, 0.5, NONE, seed=1)
    again = build_classifier(name, 0.5, kept(champion, tmp_path), seed=2)
    assert state_digest(again.state_dict()) == state_digest(champion.state_dict())
    assert again.frozen_norm


def test_a_detector_comes_back_whole_its_heads_included(tmp_path: Path) -> None:
    settings = DetectionSettings(width=16, depth=1)
    champion = build_detector("shufflenet_v2", 64, 1, settings, NONE, seed=1)
    again = build_detector("shufflenet_v2", 64, 1, settings, kept(champion, tmp_path), seed=2)
    assert state_digest(again.state_dict()) == state_digest(champion.state_dict())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights = kept(build_classifier("shufflenet_v2", 0.5, NONE, seed=1), tmp_path)
    with pytest.raises(SettingsError, match="does not belong to cover_net"):
        build_classifier("cover_net", 0.5, weights, seed=1)


def test_a_champion_is_shown_what_it_was_shown(tmp_path: Path) -> None:
    weights = kept(build_classifier("shufflenet_v2", 0.5, NONE, seed=1), tmp_path)
    settings = TrainingSettings(backbone="shufflenet_v2", image_size=64)
    assert input_of(settings, weights) == SHOWN
    assert input_of(settings, NONE).mean == (0.5, 0.5, 0.5)
