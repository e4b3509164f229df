import json

import numpy as np
import pytest

from components.bundle import read_bundle
from components.culture import Modality
from components.datasets.splits import load_split
from components.datasets.versions import DataRepository
from components.errors import IntegrityError
from components.evaluation.baseline import FITTED_NAME, FIXED_NAME
from components.evaluation.evidence import read_evidence
from components.evaluation.gates import judge
from components.evaluation.report import render_report
from components.evaluation.scoring import score_bundle
from components.evaluation.steps import evaluate
from components.imaging import decode, preprocess, probabilities
from components.novelty import Familiar
from components.settings import GateSettings
from components.storage import open_store

METRICS = {
    "accuracy",
    "within_one_class",
    "roc_auc_micro",
    "pr_auc_micro",
    "n",
    "majority_accuracy",
    "balanced_accuracy",
    "quadratic_kappa",
    "missed_overgrowth",
    "ece",
    "foreign",
    "temperature",
}


def run(world, output, **changes):
    about = {"modality": Modality.SINGLE_STACK, "data_version": world.version, "lineage": "main"}
    model_dir = changes.pop("model_dir", world.model_dir)
    search_file = changes.pop("search_file", world.search_file)
    return evaluate(world.store, world.split_id, model_dir, search_file, output, world.home, **about | changes)


@pytest.fixture(scope="module")
def done(world, tmp_path_factory):
    output = tmp_path_factory.mktemp("candidate") / "bundle"
    return run(world, output, quarantined={"blank": 3.0}), output


def test_it_returns_plain_metrics(done):
    metrics, _ = done
    assert set(metrics) == METRICS
    assert json.loads(json.dumps(metrics)) == metrics
    assert 0.8 <= metrics["accuracy"] < 1 and metrics["within_one_class"] == 1


def test_it_writes_a_whole_bundle(done, world):
    metrics, output = done
    bundle, _ = read_bundle(output)
    assert {path.name for path in output.iterdir()} == {
        "model.onnx",
        "known.png",
        "evidence.json",
        "novelty.npz",
        "bundle.json",
    }
    assert set(bundle.files) == {"model.onnx", "known.png", "evidence.json", "novelty.npz"}
    assert bundle.model_name == "confluence-single-stack" and bundle.backbone == "brightness"
    assert bundle.classes == ("seeding", "media change", "subculture", "overgrown")
    assert (bundle.data_version, bundle.split_id) == (world.version, world.split_id)
    assert bundle.metrics == {name: value for name, value in metrics.items() if value is not None}


def test_the_known_answer_is_what_the_model_file_says(done):
    onnxruntime = pytest.importorskip("onnxruntime")
    _, output = done
    bundle, _ = read_bundle(output)
    session = onnxruntime.InferenceSession(output / "model.onnx", providers=["CPUExecutionProvider"])
    image = preprocess((output / "known.png").read_bytes(), bundle.preprocessing)
    (logits,) = session.run(None, {"images": image[np.newaxis]})
    answer = probabilities(logits, bundle.temperature)[0]
    assert answer == pytest.approx(bundle.known.probabilities, abs=bundle.known.tolerance / 10)
    assert answer.max() >= bundle.min_confidence


def test_the_evidence_is_that_of_the_bundle(done, world):
    metrics, output = done
    evidence = read_evidence(output / "evidence.json")
    test = score_bundle(world.store, world.split_id, output, world.home / "cache")
    assert [answer.predicted for answer in evidence.answers] == test.predicted.tolist()
    assert evidence.measured.value("accuracy") == test.right.mean() == metrics["accuracy"]
    assert evidence.data.quarantined == {"blank": 3}
    assert sum(evidence.data.counts["test"].values()) == len(test) == metrics["n"]
    assert {each.field for each in evidence.slices} == {"source", "day"}
    assert evidence.search.trials[0].value == 0.4
    assert [each.name for each in evidence.baselines] == [FIXED_NAME, FITTED_NAME]
    assert all(each.measured.n == len(test) for each in evidence.baselines)
    assert "brightness" in render_report(evidence, verdict=judge(test, None, GateSettings()))


def test_a_run_without_a_search_has_none_in_its_evidence(world, tmp_path):
    run(world, tmp_path, search_file=None)
    evidence = read_evidence(tmp_path / "evidence.json")
    assert evidence.search is None and evidence.data.quarantined is None


def test_missing_inputs_leave_nothing_behind(world, tmp_path):
    for changes in ({"model_dir": tmp_path / "nowhere"}, {"search_file": tmp_path / "nowhere.json"}):
        with pytest.raises(IntegrityError, match="nowhere"):
            run(world, tmp_path / "bundle", **changes)
    assert not (tmp_path / "bundle").exists()


def test_it_says_which_images_are_like_those_it_learnt_from(done, world):
    metrics, output = done
    familiar = Familiar.read(output / "novelty.npz")
    found = read_evidence(output / "evidence.json").familiarity
    assert (found.references, found.calibrated_on, found.n) == (48, 16, metrics["n"])
    # Sixteen images cannot promise two per cent.
    assert found.promised == familiar.rate == 1 / 17
    assert found.foreign.value == metrics["foreign"] <= 0.25
    assert found.foreign.low <= found.foreign.value <= found.foreign.high
    assert familiar.judge(np.zeros((40, 48, 3), np.uint8)).novelty > 1
    repository = DataRepository(open_store(world.store))
    images = [decode(repository.image(each)) for each in load_split(repository, world.split_id)["test"]]
    assert np.mean([familiar.judge(image).novelty > 1 for image in images]) == found.foreign.value
    assert f"of the {found.n} test images" in render_report(read_evidence(output / "evidence.json"))
