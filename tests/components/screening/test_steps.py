import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageFilter
from PIL.Image import Transpose

from components.audit.log import AuditLog
from components.bundle import EVIDENCE_FILE, KNOWN_IMAGE_FILE, MODEL_FILE, file_digest
from components.culture import ABNORMAL_MODEL
from components.datasets.importers import find_images
from components.evaluation.detector.evidence import write_detector_evidence
from components.registry.versions import Alias, Registry
from components.storage import open_store
from tests.components.evaluation.test_detector import evidence as detector_evidence

assert detector_evidence, "a fixture"

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
    told = [entry.action for entry in AuditLog(open_store(clinic.store)).entries()]
    assert told[-2:] == ["batch.screened", "batch.stopped"]


def test_copies_are_refused_by_name_and_the_rest_is_admitted(clinic):
    tested = [path for path in clinic.frozen() if path.startswith("first/")]
    clinic.write("november", range(100, 140), LABELS)
    folder = clinic.folder / "batches" / "november"
    known = clinic.records(clinic.repository.refs()["clinic"])
    (folder / "100.png").write_bytes(clinic.repository.image(known[tested[0]]))
    original = Image.open(io.BytesIO(clinic.repository.image(known[tested[1]])))
    original.transpose(Transpose.ROTATE_90).save(folder / "101.png")
    learnt = next(path for path in known if path not in tested)
    (folder / "102.png").write_bytes(clinic.repository.image(known[learnt]))
    result = clinic.screen(clinic.take("november"))
    assert (result["verdict"], result["images"]) == ("admitted", 40)
    assert result["refused"] == {"copy of a test image": 2, "copy of a known image": 1}
    assert sorted(clinic.records(result["admissible"])) == sorted(f"november/{seed}.png" for seed in range(103, 140))
    assert f"november/101.png is a copy of the test image {tested[1]}" in Path(result["page"]).read_text()


def test_a_batch_that_the_lineage_holds_already_is_stopped(clinic):
    clinic.write("again", range(80), [number % 4 + 1 for number in range(80)])
    result = clinic.screen(clinic.take("again"))
    assert (result["verdict"], result["admissible"], result["review"]) == ("stopped", "", None)
    assert "All 80 images are copies of images that the lineage holds: there is nothing new." in result["reasons"]


def test_a_batch_without_labels_waits_in_the_queue_and_finds_its_way_back(clinic, run):
    clinic.write("november", range(100, 108), [""] * 8, LABELS[:8])
    result = clinic.screen(clinic.take("november"))
    assert (result["verdict"], result["admissible"]) == ("queued", "")
    place = Path(result["review"])
    assert place == clinic.home / "review" / "clinic" / "november"
    rows = _rows(place)
    assert [row["class"] for row in rows] == [""] * 8
    assert [row["suggested_class"] for row in rows] == [str(LABELS[int(row["file"][9:12]) - 100]) for row in rows]
    assert {row["why"] for row in rows} == {"no label yet"}

    for row in rows[:6]:
        row["class"] = row["suggested_class"]
    _write_rows(place, rows)
    taken = run("data", "import", str(place), "--ref", "clinic")
    assert (taken["images"], taken["left_out"]) == (86, {"without a confluence class": 2})
    record = clinic.records(taken["version"])["november/100.png"]
    assert (record.confluence_class, record.vessel, record.batch) == (1, "november-v0", "november")
    assert record.extra["suggested_class"] == "1"
    assert run("data", "import", str(place), "--ref", "clinic")["changed"] is False

    # The labels come with the batch, too: its images replace themselves.
    clinic.write("november", range(100, 108), LABELS[:8])
    later = clinic.screen(clinic.take("november"))
    assert (later["verdict"], later["refused"]) == ("admitted", {})
    assert clinic.admit(later["admissible"], "november")["images"] == 88


def test_what_is_labelled_is_admitted_and_the_rest_queued(clinic):
    given = [label if number < 30 else "" for number, label in enumerate(LABELS)]
    clinic.write("november", range(100, 140), given, LABELS)
    result = clinic.screen(clinic.take("november"))
    assert result["verdict"] == "admitted"
    assert "10 of 40 images wait for labels; the others are admitted." in result["reasons"]
    assert len(clinic.records(result["admissible"])) == 30
    assert {row["file"] for row in _rows(Path(result["review"]))} == {
        f"november/{seed}.png" for seed in range(130, 140)
    }


def test_a_stopped_batch_is_queued_without_the_labels_that_are_contradicted(clinic, run):
    shown = [label if number % 2 else label % 4 + 1 for number, label in enumerate(LABELS)]
    clinic.write("november", range(100, 140), shown, LABELS)
    result = clinic.screen(clinic.take("november"))
    assert result["verdict"] == "stopped"
    rows = {int(row["file"][9:12]) - 100: row for row in _rows(Path(result["review"]))}
    assert {number for number, row in rows.items() if not row["class"]} >= set(range(0, 40, 2)) - {7, 17, 27, 37}
    assert all(row["given_class"] == str(shown[number]) for number, row in rows.items() if not row["class"])
    assert "the champion says" in rows[0]["why"]
    taken = run("data", "import", result["review"], "--ref", "clinic")
    assert taken["left_out"] == {"without a confluence class": sum(not row["class"] for row in rows.values())}


def test_what_a_person_has_filled_in_stays_when_the_batch_comes_again(clinic):
    clinic.write("november", range(100, 108), [""] * 8, LABELS[:8])
    place = Path(clinic.screen(clinic.take("november"))["review"])
    rows = _rows(place)
    rows[0]["class"], rows[1]["class"] = "4", "not sure"
    _write_rows(place, rows)
    clinic.screen(clinic.take("november"))
    assert [row["class"] for row in _rows(place)][:2] == ["4", "not sure"], "the very same queue is left alone"

    clinic.write(
        "november",
        [100, 102, *range(104, 112)],
        [""] * 10,
        [LABELS[seed - 100] for seed in [100, 102, *range(104, 112)]],
    )
    (clinic.folder / "batches" / "november" / "101.png").unlink()
    clinic.screen(clinic.take("november"))
    found = {row["file"]: row["class"] for row in _rows(place)}
    assert {file for file, label in found.items() if label} == {rows[0]["file"]}
    assert found[rows[0]["file"]] == "4"
    assert not (place / "november" / "101.png").exists()


def test_before_there_is_a_champion_that_is_said_and_nothing_stops(no_champion):
    no_champion.write("november", range(100, 140), [label % 4 + 1 for label in LABELS], LABELS)
    result = no_champion.screen(no_champion.take("november"))
    assert result["verdict"] == "admitted"
    assert _check(result, "disagreement") == {
        "name": "disagreement with the champion",
        "figure": None,
        "bound": None,
        "relation": "<=",
        "passed": True,
        "note": "there is no champion yet that could contradict a label",
        "share": True,
    }
    assert "There is no champion yet" in Path(result["page"]).read_text()


def test_the_first_batch_of_a_lineage_has_nothing_to_be_compared_with(no_champion):
    no_champion.write("november", range(100, 140), LABELS)
    version = no_champion.take("november")
    result = no_champion.screen(version, lineage="new")
    assert (result["verdict"], result["drift"], result["admissible"]) == ("admitted", None, version)
    assert [check["figure"] for check in result["checks"]] == [None, 0, None, None]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"max_class_shift": 0.5}, "change of the classes' shares is 75.0 %"),
        ({"max_statistics_shift": 0.5}, "statistics"),
    ],
)
def test_a_setting_makes_balance_and_statistics_stop(clinic, setting, said):
    clinic.write("november", range(100, 140), [1] * 40)
    version = clinic.take("november")
    assert clinic.screen(version)["verdict"] == "admitted", "by default they are told"
    result = clinic.screen(version, **setting)
    assert result["verdict"] == "stopped"
    assert any(said in reason for reason in result["reasons"])


def test_the_queue_lies_beside_the_images_where_those_are_in_s3(no_champion, s3_uri):
    clinic = replace(no_champion, store=f"{s3_uri}/store")
    clinic.write("november", range(100, 104), [""] * 4, LABELS[:4])
    result = clinic.screen(clinic.take("november"))
    assert result["review"] == f"{s3_uri}/store/review/clinic/november"
    images = find_images(open_store(result["review"]), unlabelled=True)
    assert [image.path for image in images] == [f"november/{seed}.png" for seed in range(100, 104)]


def test_a_batch_of_boxes_is_held_against_the_detector(no_champion, make_detector, detector_evidence):
    detector = no_champion
    bundle = detector.folder / "detector"
    bundle.mkdir()
    write_detector_evidence(detector_evidence, bundle / EVIDENCE_FILE)
    make_detector(bundle, weight=0)
    files = {name: file_digest(bundle / name) for name in (MODEL_FILE, KNOWN_IMAGE_FILE, EVIDENCE_FILE)}
    make_detector(bundle, weight=0, files=files)
    registry = Registry(detector.mlflow)
    registry.set_alias(registry.register(bundle).version, Alias.CHAMPION)
    detector.write("november", range(100, 108), [""] * 8, LABELS[:8])
    boxes = "".join(f"{seed}.png,12,5,24,30,Flatten\n" for seed in range(100, 104))
    table = detector.folder / "batches" / "november" / "boxes.csv"
    table.write_text(f"file,x1,y1,x2,y2,class\n{boxes}104.png,,,,,\n")
    result = detector.screen(detector.take("november"), model=ABNORMAL_MODEL)
    assert result["verdict"] == "admitted"
    assert len(detector.records(result["admissible"])) == 5
    # Four of the cells are found; one box is too many.
    assert _check(result, "disagreement")["figure"] == pytest.approx(1 / 5)
    rows = _rows(Path(result["review"]))
    assert [row["file"] for row in rows] == [f"november/{seed}.png" for seed in range(105, 108)]
    assert "cells found" in Path(result["page"]).read_text()


def test_drift_fills_the_queue_and_stops_nothing(clinic):
    clinic.write("november", range(100, 140), LABELS)
    for path in (clinic.folder / "batches" / "november").glob("*.png"):
        with Image.open(path) as image:
            changed = image.filter(ImageFilter.GaussianBlur(0.8))
        changed.save(path)
    result = clinic.screen(clinic.take("november"))
    assert result["drift"]["drifted"]
    assert result["verdict"] == "admitted"
    assert "The images look different from those before them." in result["reasons"]
    rows = _rows(Path(result["review"]))
    assert {row["file"] for row in rows} == set(result["drift"]["most_foreign"])
    assert {row["why"] for row in rows} == {"looks unlike earlier images"}
    given = {f"november/{seed}.png": str(label) for seed, label in zip(range(100, 140), LABELS, strict=True)}
    assert all(row["class"] == given[row["file"]] for row in rows), "the labels stand"
    assert (Path(result["page"]).parent / "drift.html").is_file()


def _rows(place):
    with (place / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _write_rows(place, rows):
    with (place / "labels.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
