import json
from pathlib import Path

from components.audit.log import AuditLog
from components.storage import open_store

LABELS = [number % 4 + 1 for number in range(40)]


def _check(result, name):
    return next(check for check in result["checks"] if name in check["name"])


def test_a_batch_of_right_labels_is_admitted(clinic):
    clinic.write("november", range(100, 140), LABELS)
    version = clinic.take("november")
    result = clinic.screen(version)
    assert (result["verdict"], result["refused"], result["review"]) == ("admitted", {}, None)
    assert result["admissible"] == version
    assert _check(result, "disagreement")["figure"] <= 0.1 < _check(result, "disagreement")["bound"]
    assert all(check["passed"] for check in result["checks"])
    assert json.loads((Path(result["page"]).parent / "screening.json").read_text()) == json.loads(json.dumps(result))
    grown = clinic.admit(result["admissible"], "november")
    assert (grown["images"], grown["new_images"]) == (120, 40)


def test_a_batch_of_shifted_labels_is_stopped_and_shown(clinic):
    shown = [label % 4 + 1 for label in LABELS]
    clinic.write("november", range(100, 140), shown, LABELS)
    version, before = clinic.take("november"), clinic.repository.refs()["clinic"]
    result = clinic.screen(version)
    assert (result["verdict"], result["admissible"]) == ("stopped", "")
    assert "disagreement with the champion is 100.0 %" in result["reasons"][0]
    assert clinic.repository.refs()["clinic"] == before
    page = Path(result["page"]).read_text()
    assert "✗ Stopped" in page
    assert page.count("called <b>") == 24
    assert [entry.action for entry in AuditLog(open_store(clinic.store)).entries()] == [
        "batch.screened",
        "batch.stopped",
    ]
