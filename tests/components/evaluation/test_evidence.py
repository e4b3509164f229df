import json

import pytest

from components.errors import IntegrityError
from components.evaluation.evidence import read_evidence, write_evidence


def test_evidence_survives_the_file(evidence, tmp_path):
    write_evidence(evidence, tmp_path / "evidence.json")
    assert read_evidence(tmp_path / "evidence.json") == evidence


def test_undefined_figures_are_null_in_the_file(make_scored, make_evidence, tmp_path):
    write_evidence(make_evidence(make_scored(truth=[1, 2, 2])), tmp_path / "evidence.json")
    text = (tmp_path / "evidence.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["measured"]["figures"]["missed_overgrowth"] == {"value": None, "low": None, "high": None}


def test_what_is_no_evidence_is_refused(evidence, tmp_path):
    path = tmp_path / "evidence.json"
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_evidence(path)
    path.write_text('{"format": "mscflow-evidence/1"}')
    with pytest.raises(IntegrityError, match="is not evidence of the format"):
        read_evidence(path)
    write_evidence(evidence, path)
    path.write_text(path.read_text().replace("mscflow-evidence/1", "mscflow-evidence/2"))
    with pytest.raises(IntegrityError, match="'mscflow-evidence/2'"):
        read_evidence(path)
