import json

import pytest

from components.errors import IntegrityError
from components.evaluation.inputs import read_search, read_training

EPOCH = {"epoch": 1, "train_loss": 1.2, "validation_loss": 1.3, "validation_accuracy": 0.4, "something_new": 5}
TRAINING = {
    "history": [EPOCH],
    "best_epoch": 1,
    "learning_rate": 1e-3,
    "settings": {"backbone": "resnet50", "image_size": 64},
    "preprocessing": {"size": 64},
    "weights": {"source": "file r.pt", "sha256": "ab" * 32},
    "seed": 0,
}


def test_training_is_read_with_what_it_does_not_need_left_aside(tmp_path):
    (tmp_path / "model.onnx").touch()
    (tmp_path / "training.json").write_text(json.dumps(TRAINING))
    training = read_training(tmp_path)
    assert training.backbone == "resnet50"
    assert training.prepare.size == 64
    assert training.history[0].validation_loss == 1.3
    assert str(training.weights) == "file r.pt (SHA-256 abababababab)"


def test_missing_or_damaged_training_is_told(tmp_path):
    with pytest.raises(IntegrityError, match=r"holds no model\.onnx; run the training step again"):
        read_training(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_training(tmp_path)
    (tmp_path / "training.json").write_text(json.dumps({"history": [EPOCH]}))
    with pytest.raises(IntegrityError, match="best_epoch"):
        read_training(tmp_path)


def test_trials_without_a_result_are_kept(tmp_path):
    path = tmp_path / "search.json"
    path.write_text(
        json.dumps({"trials": [{"number": 0, "lr": 1e-3, "value": None, "state": "fail"}], "sampler": "tpe"})
    )
    search = read_search(path)
    assert search.trials[0].value is None and search.sampler == "tpe"
    path.write_text("[")
    with pytest.raises(IntegrityError, match="is not what the evaluation expects"):
        read_search(path)
