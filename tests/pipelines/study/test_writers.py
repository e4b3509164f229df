import csv
import io
import json

import pytest

from components.culture import Task
from pipelines.study import writers
from pipelines.study.tables import METRICS

FIVE = [0.7, 0.8, 0.9, 0.8, 0.8]


@pytest.fixture
def rows(make_cell, make_study):
    made = make_study(
        {make_cell("resnet50"): FIVE, make_cell("vit"): [0.6, None, 0.7], make_cell("vit", "published"): FIVE}
    )
    return made.table_1


def test_markdown_tells_mean_sd_interval_best_and_the_paper(rows):
    text = writers.markdown(rows, writers.title(Task.CONFLUENCE))
    line = next(line for line in text.splitlines() if line.startswith("| ResNet50"))
    assert "**80.0 % ± 7.1 %**<br>71.2 % to 88.8 %" in line
    assert "86.3 % ± 3.8 %" in line
    assert text.count("## ") == 2
    assert "| Vision Transformer (2 of 3 folds) |" in text
    heads = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(set(heads)) == 1


def test_an_interval_is_cut_at_what_the_figure_can_be(make_cell, make_study):
    (row,) = make_study({make_cell(): [0.9, 1.0]}).table_1
    metrics = {metric.name: metric for metric in METRICS[Task.CONFLUENCE]}
    assert writers.interval(row.figures["accuracy"], metrics["accuracy"]).endswith("to 100.0 %")


def test_csv_has_a_row_a_cell_and_bare_numbers(rows):
    read = list(csv.DictReader(io.StringIO(writers.as_csv(rows))))
    assert [line["backbone"] for line in read] == [row.cell.backbone for row in rows]
    first = read[0]
    assert float(first["accuracy_mean"]) == pytest.approx(0.8)
    assert float(first["accuracy_sd"]) == pytest.approx(0.0707107, abs=1e-6)
    assert (first["accuracy_folds"], first["accuracy_paper_mean"]) == ("5", "0.863")
    assert first["protocol"] == "grouped"


def test_json_has_the_folds_too(rows):
    read = json.loads(writers.as_json(rows))
    assert read[0]["values"]["accuracy"] == FIVE
    assert read[1]["missing"] == ["2"]


def test_no_rows_make_no_table():
    assert writers.markdown([], "Table 2") == writers.as_csv([]) == ""
