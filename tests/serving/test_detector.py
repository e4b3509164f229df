from collections.abc import Callable
from pathlib import Path

import pytest

from components.bundle import KnownBoxes
from components.endpoint.files import WantedModel
from components.endpoint.prediction import CellsPrediction
from components.imaging import decode
from serving.detector import Detector
from serving.loaded import ModelRejected
from serving.loading import load_model

BOX = (0.25, 0.125, 0.5, 0.75)  # what the tiny detector finds


@pytest.fixture
def load(tmp_path: Path, make_detector: Callable[..., str]) -> Callable[..., Detector]:
    def make(**options: object) -> Detector:
        digest = make_detector(tmp_path, **options)
        model = load_model("abnormal-cells", WantedModel(str(tmp_path), "4", digest), threads=1)
        assert isinstance(model, Detector)
        return model

    return make


def ask(model: Detector, *images: bytes) -> list[CellsPrediction]:
    return model.infer([model.prepare(decode(image), None) for image in images])


def test_cells_are_given_in_pixels_of_the_image(load: Callable[..., Detector], png: Callable[..., bytes]) -> None:
    wide, high = ask(load(), png(size=(40, 80)), png(size=(100, 60)))
    assert (wide.width, wide.height, wide.count) == (80, 40, 1)
    assert [cell.box for cell in wide.cells] == [(20.0, 5.0, 40.0, 30.0)]
    assert [cell.box for cell in high.cells] == [(15.0, 12.5, 30.0, 75.0)]
    assert (wide.model, wide.model_version, wide.data_version) == ("abnormal-cells", "4", "c" * 64)
    assert 0.5 <= wide.cells[0].score <= 1


def test_boxes_below_the_threshold_are_not_given(load: Callable[..., Detector], png: Callable[..., bytes]) -> None:
    (answer,) = ask(load(min_score=0.99), png())
    assert (answer.cells, answer.count, answer.abstain) == ((), 0, False)


def test_many_images_are_answered_as_one_by_one(load: Callable[..., Detector], png: Callable[..., bytes]) -> None:
    model = load(weight=10)
    images = [png(seed, size=(20 + seed, 30)) for seed in range(11)]
    assert ask(model, *images) == [ask(model, image)[0] for image in images]


@pytest.mark.parametrize(
    ("boxes", "scores"),
    [((BOX,), (0.2,)), (((0.1, 0.1, 0.2, 0.2),), (0.88,)), ((BOX, (0.0, 0.0, 0.1, 0.1)), (0.88, 0.6))],
    ids=["score", "place", "one more"],
)
def test_a_detector_that_finds_other_boxes_than_it_did_is_rejected(
    load: Callable[..., Detector], boxes: tuple, scores: tuple
) -> None:
    with pytest.raises(ModelRejected, match=r"known\.png has no box at \("):
        load(known=KnownBoxes(boxes=boxes, scores=scores))


def test_a_detector_whose_outputs_are_a_classifier_s_is_rejected(
    tmp_path: Path, make_detector: Callable[..., str], make_bundle: Callable[..., str]
) -> None:
    make_bundle(tmp_path / "classifier")
    make_detector(tmp_path / "detector")
    (tmp_path / "detector/model.onnx").write_bytes((tmp_path / "classifier/model.onnx").read_bytes())
    from components.bundle import BUNDLE_FILE, DetectorBundle, file_digest, read_any_bundle, write_bundle

    place = tmp_path / "detector"
    bundle = DetectorBundle.model_validate_json((place / BUNDLE_FILE).read_bytes())
    files = {name: file_digest(place / name) for name in bundle.files}
    digest = write_bundle(place, bundle.model_copy(update={"files": files}))
    assert read_any_bundle(place, digest)[1] == digest
    with pytest.raises(ModelRejected, match="ONNX Runtime refuses"):
        load_model("abnormal-cells", WantedModel(str(place), "1", digest), threads=1)
