"""A detector's gate, evidence and report, from boxes to the page."""

import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from components.boxes import Boxes
from components.errors import DataError, IntegrityError
from components.evaluation.costs import Costs
from components.evaluation.curves import Curve
from components.evaluation.detector.evidence import (
    Answer,
    Count,
    Data,
    DetectorEvidence,
    Epoch,
    Picture,
    read_detector_evidence,
    write_detector_evidence,
)
from components.evaluation.detector.gate import judge_detector
from components.evaluation.detector.pictures import marks
from components.evaluation.detector.report import render_detector_report
from components.evaluation.detector.scored import BoxScored, joined
from components.evaluation.evidence import Model
from components.evaluation.judging import judge_version
from components.evaluation.verdict import bound_of, figure_of
from components.settings import GateSettings
from tests.pages import Page

CELL, ELSEWHERE = (0.1, 0.1, 0.4, 0.4), (0.6, 0.6, 0.9, 0.9)
IMAGES = 20


def scored(found_in: int, *, wrong_in: int = 0, model: str = "a" * 64) -> BoxScored:
    """Twenty images with a cell each; found in the first, and a false box in the first of them."""
    truth = [np.array([CELL])] * IMAGES
    boxes, scores = [], []
    for row in range(IMAGES):
        here = [CELL] * (row < found_in) + [ELSEWHERE] * (row < wrong_in)
        boxes.append(np.array(here).reshape(-1, 4))
        scores.append(np.array([0.9, 0.8][: len(here)]))
    return BoxScored(
        model=model,
        paths=tuple(f"{row}.png" for row in range(IMAGES)),
        sha256s=tuple(f"{row:064}" for row in range(IMAGES)),
        groups=tuple(f"vessel {row // 2}" for row in range(IMAGES)),
        slices={"day": tuple(str(row % 2) for row in range(IMAGES))},
        positive=("Flatten",),
        truth=Boxes.of(truth),
        found=Boxes.of(boxes, scores),
        threshold=0.5,
        iou=0.5,
    )


FLOORS = GateSettings(min_recall=0.6, max_false_discovery=0.4, min_average_precision=0.5, bootstrap=200)


SMALL_SLICES = {"slice_images": 10, "slice_groups": 5}


class TestGate:
    def test_a_good_one_passes(self):
        verdict = judge_detector(scored(18), None, FLOORS)
        assert verdict.passed
        assert [rule.name for rule in verdict.rules][1:4] == ["recall", "false discovery rate", "average precision"]
        assert verdict.groups == 10

    @pytest.mark.parametrize(
        ("answers", "reason"),
        [
            (scored(11), "Of the abnormal cells, 55.0 % are found, below the floor of 60.0 %."),
            (scored(12, wrong_in=20), "Of the boxes found, 62.5 % are false, more than 40.0 %."),
            (scored(9), "Average precision at overlap 0.5 is 45.0 %, below the floor of 50.0 %."),
        ],
    )
    def test_each_floor_refuses_with_its_figure(self, answers, reason):
        verdict = judge_detector(answers, None, FLOORS)
        assert not verdict.passed
        assert reason in verdict.reasons

    def test_finding_nothing_is_refused_for_its_recall(self):
        verdict = judge_detector(scored(0), None, FLOORS)
        assert [rule.passed for rule in verdict.rules] == [True, False, True, False, True]

    def test_a_test_part_without_a_cell_judges_nothing(self):
        answers = scored(0)
        verdict = judge_detector(replace(answers, truth=Boxes.of([np.zeros((0, 4))] * IMAGES)), None, FLOORS)
        assert not verdict.passed
        assert "no test image shows an abnormal cell" in verdict.reasons[0]

    def test_a_worse_one_does_not_replace_the_champion(self):
        champion = scored(20, model="b" * 64)
        verdict = judge_detector(scored(16), champion, FLOORS)
        (rule,) = (rule for rule in verdict.rules if rule.name == "not worse than the champion")
        # F1 of 16 found in 20, none false: 32 / 36. Two vessels of ten are lost.
        assert "difference -11.1 points" in rule.note
        assert rule.figure < 32 / 36 - 1
        assert not verdict.passed
        assert judge_detector(scored(16), champion, FLOORS.model_copy(update={"margin": 0.5, "max_loss": 0.5})).passed
        assert judge_detector(scored(20), champion, FLOORS).passed

    def test_fewer_false_boxes_do_not_pay_for_missed_cells(self):
        champion, challenger = scored(20, wrong_in=10, model="b" * 64), scored(17)
        assert challenger.measured(resamples=1).value("f1") > champion.measured(resamples=1).value("f1")
        verdict = judge_detector(challenger, champion, FLOORS)
        assert [rule.name for rule in verdict.rules if not rule.passed] == ["not worse in recall"]
        assert judge_detector(scored(20), champion, FLOORS).passed

    def test_the_identical_one_passes_and_one_that_saw_the_images_does_not(self):
        champion = scored(16, model="b" * 64)
        assert judge_detector(scored(16), champion, FLOORS).passed
        seen = judge_detector(replace(scored(20), learnt=3), champion, FLOORS)
        assert [rule.name for rule in seen.rules if not rule.passed] == ["test images it learnt from"]

    def test_a_slice_in_which_there_is_nothing_to_find_is_not_judged(self):
        cells = [np.array([CELL]) if row % 2 else np.zeros((0, 4)) for row in range(IMAGES)]
        found = Boxes.of(cells, [np.full(len(each), 0.9) for each in cells])
        champion = replace(scored(0, model="b" * 64), truth=Boxes.of(cells), found=found)
        verdict = judge_detector(replace(champion, model="a" * 64), champion, FLOORS.model_copy(update=SMALL_SLICES))
        assert verdict.passed
        names = [rule.name for rule in verdict.rules]
        assert "not worse in day 1" in names and "not worse in day 0" not in names

    def test_what_it_costs_is_judged_with_it(self):
        verdict = judge_detector(scored(18), None, FLOORS, Costs(0.1, None, 900_000_000))
        assert verdict.reasons == ("The exported network is 900 MB, more than 500 MB.",)

    def test_other_images_or_cells_cannot_be_compared(self):
        champion = scored(20)
        with pytest.raises(DataError, match="other images"):
            judge_detector(scored(20), replace(champion, paths=champion.paths[::-1]), FLOORS)
        moved = Boxes.of([np.array([ELSEWHERE])] * IMAGES)
        with pytest.raises(DataError, match="other boxes"):
            judge_detector(scored(20), replace(champion, truth=moved), FLOORS)

    def test_the_door_to_both_tasks_leads_here(self):
        assert judge_version(scored(18), None, FLOORS) == judge_detector(scored(18), None, FLOORS)


class TestScored:
    def test_a_part_of_the_images_keeps_their_boxes(self):
        part = scored(3, wrong_in=2).of_images(np.array([1, 3]))
        assert part.paths == ("1.png", "3.png")
        assert part.tallies.tolist() == [[1, 0], [2, 0], [1, 1]]

    def test_batches_are_put_together(self):
        first, second = Boxes.of([np.array([CELL]), np.zeros((0, 4))]), Boxes.of([np.array([ELSEWHERE])])
        both = joined([first, second])
        assert both.images == 3
        assert both.image.tolist() == [0, 2]

    def test_marks_tell_found_missed_right_and_false(self):
        kinds = [[mark.kind for mark in marks(scored(1, wrong_in=1).of_images(np.array([row])))] for row in (0, 1)]
        assert kinds == [["found", "right", "false"], ["missed"]]


@pytest.fixture
def evidence() -> DetectorEvidence:
    test = scored(15, wrong_in=4)
    right, given, truths = test.tallies.astype(int).tolist()
    return DetectorEvidence(
        created=datetime(2026, 1, 1, tzinfo=UTC),
        model=Model(
            name="abnormal-cells",
            modality="single_stack",
            backbone="tiny",
            sha256="c" * 64,
            preprocessing={},
            weights="none",
            learning_rate=1e-3,
            settings={"epochs": 2, "backbone": "tiny", "augmentations": None},
        ),
        data=Data(
            version="d" * 64,
            lineage="line",
            split_id="5" * 64,
            positive=("Dead <Cell>",),
            counts={part: Count(20, 20, 20, 10) for part in ("train", "validation", "test")},
            quarantined={"blank": 2},
        ),
        detection={"positive": ["Dead <Cell>"], "width": 16},
        threshold=0.5,
        rule="by hand",
        iou=0.5,
        measured=test.measured(resamples=50),
        validation=test.measured(resamples=50),
        slices=(),
        precision_recall=Curve("precision-recall", (0.1, 0.75), (1.0, 0.8), 0.7),
        froc=Curve("froc", (0.0, 0.2), (0.5, 0.75), 0.6),
        history=tuple(
            Epoch(epoch=number, train_loss=2 / number, validation_loss=2.0, validation_average_precision=0.1 * number)
            for number in (1, 2)
        ),
        best_epoch=2,
        answers=tuple(
            Answer(path=f"{row}.png", sha256="0" * 64, group="v", cells=t, right=r, false=g - r)
            for row, (r, g, t) in enumerate(zip(right, given, truths, strict=True))
        ),
        sheet=tuple(
            Picture(row, "data:image/jpeg;base64,AAAA", 100, 50, marks(test.of_images(np.array([row]))))
            for row in (0, 16)
        ),
        code_version="0",
        environment={"python": "3"},
    )


class TestReport:
    def test_it_tells_what_was_found(self, evidence):
        page = re.sub(r"\s+", " ", render_detector_report(evidence, version="3"))
        assert "finds <b>15 of 20 abnormal cells</b>: <b>75.0" in page
        assert "4 further boxes are on none." in page
        assert "Dead &lt;Cell&gt;" in page
        assert "Dead <Cell>" not in page

    def test_boxes_are_drawn_where_they_are(self, evidence):
        page = render_detector_report(evidence)
        assert '<rect class="right" x="10.0" y="5.0" width="30.0" height="15.0"/>' in page
        assert '<rect class="false" x="60.0" y="30.0" width="30.0" height="15.0"/>' in page
        assert '<rect class="missed" x="10.0" y="5.0"' in page

    def test_the_verdict_stands_on_top(self, evidence):
        page = render_detector_report(evidence, verdict=judge_detector(scored(9), None, FLOORS))
        assert "Refused by the gate" in page
        assert "45.0 % are found, below the floor" in page

    def test_every_rule_stands_in_it_with_figure_and_bound(self, evidence):
        verdict = judge_detector(scored(15), scored(20, model="b" * 64), FLOORS, Costs(0.2, 0.1, 18_000_000))
        text = Page(render_detector_report(evidence, verdict=verdict, version="2", champion="1")).text
        text = text.replace("\u202f", " ").replace("−", "-")
        for rule in verdict.rules:
            met = "✓ met" if rule.passed else "✗ not met"
            told = f"{rule.name[:1].upper()}{rule.name[1:]} {figure_of(rule)} {bound_of(rule)} {met} {rule.note}"
            assert told.strip() in text, rule.name

    def test_it_needs_no_network_and_no_script(self, evidence):
        page = render_detector_report(evidence)
        assert "<script" not in page
        assert not re.findall(r'(?:src|href)="(?!data:|#)', page)

    def test_evidence_is_read_as_it_was_written(self, evidence, tmp_path):
        write_detector_evidence(evidence, tmp_path / "evidence.json")
        assert read_detector_evidence(tmp_path / "evidence.json") == evidence

    def test_other_evidence_is_refused(self, tmp_path):
        (tmp_path / "evidence.json").write_text("{}")
        with pytest.raises(IntegrityError, match="is not evidence of the format"):
            read_detector_evidence(tmp_path / "evidence.json")
