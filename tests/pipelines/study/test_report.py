import json
import re
from pathlib import Path

import matplotlib as mpl
import msgspec
import pytest

from components.culture import Modality, Task
from components.errors import StorageError
from pipelines.study.report import render, write_all
from tests.pages import Page

HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def study():
    from .conftest import cell, study

    multi = {"modality": Modality.MULTI_STACK}
    return study(
        {
            cell("resnet50"): [0.7, 0.8, 0.9, 0.8, 0.8],
            cell("vit"): [0.5, None, 0.6],
            cell("resnet50", "published"): [0.9, 0.9, 0.9, 0.95, 0.85],
            cell("resnet50", "left_out"): [0.4, 0.6],
            cell("local_contrast"): [0.7, 0.7, 0.7, 0.7, 0.7],
            cell("resnet50", **multi): [0.5, 0.6, 0.5],
            cell("resnet50", clumps="masked", **multi): [0.6, 0.6, 0.5],
            cell("resnet50", task=Task.ABNORMAL_CELLS): [0.5, 0.7],
        },
        failures={"single_stack-vit-grouped, fold 2": "it diverged"},
    )


@pytest.fixture(scope="module")
def html(study):
    return render(study)


def test_it_stands_alone(html):
    page = Page(html)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert "default-src 'none'" in html
    assert not re.search(r"url\((?!#)", html)


def test_ids_are_unique_and_links_lead_somewhere(html):
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_it_tells_what_a_reader_asks_for(html):
    text = " ".join(" ".join(Page(html).words).split())
    for words in (
        "Table 1: confluence classes",
        "Table 2: abnormal cells",
        "What the leak is worth",
        "Do dark clumps disturb?",
        "On images of somebody else",
        "Network by network",
        "the paper, its images",
        "1 of 3 folds failed",
        "does not beat local contrast",
        "No result: single_stack-vit-grouped, fold 2: it diverged",
        "Confusion matrix",
        "Calibration after temperature scaling",
        "Data version",
    ):
        assert words in text
    assert html.count("<details") == 6 + 1


def test_plots_take_their_colours_from_the_page(html):
    assert "var(--first)" in html
    assert "var(--second)" in html
    assert not re.search(r"#0101\d\d|#0102\d\d", html)


def test_names_stay_text(study):
    hostile = msgspec.structs.replace(study, failures={HOSTILE: HOSTILE}, notes=(HOSTILE,), out=HOSTILE)
    page = Page(render(hostile))
    assert "script" not in page.tags
    assert "img" not in page.tags


def test_drawing_leaves_matplotlib_as_it_was(study):
    before = dict(mpl.rcParams)
    render(study)
    assert dict(mpl.rcParams) == before


def test_a_study_of_detectors_alone_makes_a_page(make_study, make_cell):
    page = Page(render(make_study({make_cell(task=Task.ABNORMAL_CELLS): [0.5, 0.7]})))
    assert "Table 2" in " ".join(page.words)
    assert "confluence" not in page.ids


def test_all_files_are_written_as_a_whole(study, tmp_path):
    files = write_all(study, tmp_path)
    assert set(files) == {
        *(f"table{number}.{form}" for number in (1, 2) for form in ("md", "csv", "json")),
        "study.json",
        "report.html",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    told = json.loads(Path(files["study.json"]).read_bytes())
    assert told["failures"] == study.failures
    assert len(told["results"]) == len(study.results)
    with pytest.raises(StorageError, match="cannot be written"):
        write_all(study, tmp_path / "missing")
