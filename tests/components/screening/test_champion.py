import io
import json

import numpy as np
import pytest
from PIL import Image

from components.datasets.blobs import blob_key
from components.datasets.manifest import Box, ImageRecord
from components.datasets.versions import DataRepository
from components.errors import IntegrityError
from components.evaluation.detector.evidence import DetectorEvidence, write_detector_evidence
from components.evaluation.evidence import write_evidence
from components.screening.champion import Champion
from components.storage import open_store
from tests.components.evaluation.conftest import make_evidence
from tests.components.evaluation.test_detector import evidence as detector_evidence
from tests.conftest import TINY_BOX

assert detector_evidence, "a fixture"
SIDE = 64


@pytest.fixture
def hold(tmp_path):
    """Gives ``hold``, which stores a plain image of a grey level and gives its record."""
    repository = DataRepository(open_store(tmp_path / "store"))

    def hold(name, grey, **fields):
        import hashlib

        file = io.BytesIO()
        levels = np.random.default_rng(0).integers(-9, 10, (SIDE, SIDE, 1)) + grey
        Image.fromarray(np.repeat(levels, 3, axis=2).astype(np.uint8)).save(file, "PNG")
        sha256 = hashlib.sha256(file.getvalue()).hexdigest()
        repository.store.ensure(blob_key(sha256), file.getvalue(), len(file.getvalue()))
        return ImageRecord(path=name, sha256=sha256, size=len(file.getvalue()), **fields)

    hold.repository = repository
    return hold


def test_a_classifier_names_classes_and_is_asked_where_there_is_a_label(make_bundle, hold, tmp_path):
    make_bundle(tmp_path / "model", favour=2, weight=0)
    records = [hold("a", 100, confluence_class=2), hold("b", 110, confluence_class=3), hold("c", 120)]
    said = Champion(tmp_path / "model", "1").opinions(hold.repository, records, tmp_path / "cache")
    assert [each.suggested for each in said] == ["2"] * 3
    assert [(each.wrong, each.asked) for each in said] == [(0, 1), (1, 1), (0, 0)]
    assert {each.novelty for each in said} == {None}, "this bundle cannot tell"
    assert not any(each.foreign for each in said)


def test_a_detector_counts_cells_missed_and_boxes_too_many(make_detector, hold, tmp_path):
    make_detector(tmp_path / "model", weight=0)
    x1, y1, x2, y2 = (SIDE * each for each in TINY_BOX)
    there, elsewhere = Box(x1, y1, x2, y2, "Flatten"), Box(40, 40, 60, 60, "Flatten")
    records = [
        hold("a", 100, boxes=(there,)),
        hold("b", 110, boxes=(elsewhere,)),
        hold("c", 120, boxes=()),
        hold("d", 130),
    ]
    champion = Champion(tmp_path / "model", "1")
    said = champion.opinions(hold.repository, records, tmp_path / "cache")
    assert champion.finds_cells
    assert [each.suggested for each in said] == ["1"] * 4
    assert [(each.wrong, each.asked) for each in said] == [(0, 1), (2, 2), (1, 1), (0, 0)]


def test_the_known_error_is_that_of_the_evidence(make_bundle, tmp_path):
    make_bundle(tmp_path / "model")
    evidence = make_evidence()
    write_evidence(evidence, tmp_path / "model" / "evidence.json")
    known = Champion(tmp_path / "model", "1").known_error()
    assert known.share == pytest.approx(1 - evidence.measured.value("accuracy"))
    assert len(known.groups) == evidence.measured.groups
    (tmp_path / "model" / "evidence.json").write_text(json.dumps({"format": "else"}))
    with pytest.raises(IntegrityError, match="is not evidence"):
        Champion(tmp_path / "model", "1").known_error()


def test_the_known_error_of_a_detector_is_over_cells_and_boxes(
    make_detector, tmp_path, detector_evidence: DetectorEvidence
):
    make_detector(tmp_path / "model")
    write_detector_evidence(detector_evidence, tmp_path / "model" / "evidence.json")
    known = Champion(tmp_path / "model", "1").known_error()
    answers = detector_evidence.answers
    assert known.wrong.sum() == sum(each.cells - each.right + each.false for each in answers) > 0
    assert known.asked.sum() == sum(each.cells + each.false for each in answers)
