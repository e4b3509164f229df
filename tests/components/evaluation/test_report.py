import re

import matplotlib as mpl
import msgspec
import numpy as np
import pytest

from components.evaluation.baseline import FITTED_NAME, THRESHOLDS, baselines
from components.evaluation.evidence import Search, Trial
from components.evaluation.gates import judge
from components.evaluation.report import render_report, write_report
from components.evaluation.verdict import bound_of, figure_of
from components.settings import GateSettings
from tests.pages import Page

HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(2)>&amp;.png"


@pytest.fixture(scope="module")
def verdict(make_scored):
    return judge(make_scored(), make_scored(skill=1, seed=2, model="e" * 64), GateSettings())


@pytest.fixture(scope="module")
def html(evidence, verdict):
    return render_report(evidence, verdict=verdict, version="3", digest="f" * 64, champion="2")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_it_tells_what_a_reader_asks_for(page, evidence, verdict):
    assert verdict.passed
    for words in [
        "confluence-single-stack version 3",
        f"Passed the gate. All {len(verdict.rules)} rules are met; it was held against version 2.",
        "Confusion matrix",
        "ROC and precision-recall curves",
        "Test images, the worst first",
        "12 trials of the learning rate (tpe)",
        "epoch 14 of 20",
        "3 images were quarantined before the split: 2 truncated, 1 too small.",
        "Majority class",
        "efficientnet_lite0",
        evidence.code_version,
        "2.14.1",
        *("f" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64),
    ]:
        assert words in page.text, words
    right = sum(answer.truth == answer.predicted for answer in evidence.answers)
    assert f"{right} of 60" in page.text


def test_every_rule_stands_in_the_page_with_figure_bound_verdict_and_note(page, verdict):
    for rule in verdict.rules:
        told = f"{rule.name[:1].upper()}{rule.name[1:]} {figure_of(rule)} {bound_of(rule)} ✓ met {rule.note}".strip()
        # As type is set: a true minus sign, and figures that do not break before their unit.
        assert told.replace("-", "−") in page.text.replace("\u202f", " ").replace("-", "−"), rule.name


def test_plots_are_drawn_with_axes_that_say_what_they_are(page):
    assert page.tags.count("svg") == 6
    for words in ["learning rate (log scale)", "validation loss (nats)", "cross-entropy (nats)", "right answers (%)"]:
        assert words in page.text
    for words in ["false positive rate", "precision", "share of right answers", "best epoch: 14"]:
        assert words in page.text
    assert all(label for tag, name, label in page.attributes if tag == "svg" and name == "aria-label")


def test_the_chosen_trial_is_marked(page, evidence):
    assert evidence.model.learning_rate in [trial.lr for trial in evidence.search.trials]
    assert f"chosen: {evidence.model.learning_rate:.2g}" in page.text
    other = msgspec.structs.replace(evidence.model, learning_rate=0.5)
    assert "chosen:" not in Page(render_report(msgspec.structs.replace(evidence, model=other))).text


def test_a_search_that_was_skipped_is_not_told_as_one(evidence):
    page = Page(render_report(msgspec.structs.replace(evidence, search=Search(trials=()))))
    assert "The learning rate was fixed at" in page.text


def test_every_test_image_has_its_picture_and_a_description(page, evidence):
    assert page.tags.count("img") == len(evidence.sheet) == 48
    alternatives = page.values("alt")
    first = evidence.answers[evidence.sheet[0].answer]
    assert alternatives[0].startswith(f"Test image of class {first.truth} ")


def test_it_stands_alone(html, page):
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    references = page.values("src") + page.values("href") + page.values("xlink:href")
    assert {reference.split(",")[0][:5] for reference in references if not reference.startswith("#")} == {"data:"}
    assert "default-src 'none'" in "".join(page.values("content"))
    assert not re.search(r"@import|url\((?!#)", html)


def test_ids_are_unique_and_links_lead_somewhere(html, page):
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = [each[1:] for each in page.values("href") + page.values("xlink:href") if each.startswith("#")]
    assert set(targets) | set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


def test_plots_take_their_colours_from_the_page(html):
    assert "#0101" not in html and "#0102" not in html
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", html))
    assert {"ink", "first", "second", "class-1", "class-4"} <= used
    assert used - {"share"} <= set(re.findall(r"--([a-z0-9-]+):", html))


def test_the_same_evidence_gives_the_same_page(html, evidence, verdict):
    assert render_report(evidence, verdict=verdict, version="3", digest="f" * 64, champion="2") == html


def test_drawing_leaves_matplotlib_as_it_was(evidence):
    before = dict(mpl.rcParams)
    render_report(evidence)
    assert dict(mpl.rcParams) == before


def test_a_refused_model_shows_why_at_the_top(evidence, make_scored):
    refused = judge(make_scored(skill=0), None, GateSettings())
    page = Page(render_report(evidence, verdict=refused, version="4", notes=["Promoted past the gate by A."]))
    assert "Refused by the gate." in page.text
    for reason in refused.reasons:
        assert reason in page.text
    assert "Promoted past the gate by A." in page.text
    assert page.text.count("✗ not met") == len(refused.reasons)


def test_a_model_that_was_not_judged_says_so(evidence):
    page = Page(render_report(evidence))
    assert "Not judged yet." in page.text and "Passed" not in page.text and "version" not in page.words


def test_the_baseline_stands_beside_the_network(evidence, make_scored):
    test = make_scored()
    shares = np.zeros((len(test), len(THRESHOLDS)))
    shares[:, 3] = np.array([0.1, 0.5, 0.7, 0.9])[test.truth - 1]
    beaten = msgspec.structs.replace(evidence, baselines=baselines(shares, test.truth, shares, test))
    html = render_report(beaten)
    assert "The network does not beat a filter" in html
    assert html.count(FITTED_NAME.capitalize()) == 1
    assert "Without a network" in html
    assert "Without a network" not in render_report(evidence)


def test_hostile_names_stay_text(make_scored, make_evidence):
    names = {"paths": (HOSTILE,) * 12, "groups": (HOSTILE,) * 12, "slices": {"source": ("a", HOSTILE) * 6}}
    evidence = make_evidence(make_scored(n=12, **names))
    data = msgspec.structs.replace(evidence.data, lineage=HOSTILE, quarantined={HOSTILE: 1})
    model = msgspec.structs.replace(evidence.model, name=HOSTILE, backbone=HOSTILE, settings={HOSTILE: HOSTILE})
    evidence = msgspec.structs.replace(
        evidence, data=data, model=model, code_version=HOSTILE, environment={HOSTILE: HOSTILE}
    )
    html = render_report(evidence, version=HOSTILE, digest=HOSTILE)
    page = Page(html)
    assert "script" not in page.tags and "<script" not in html
    assert page.tags.count("img") == 12
    assert HOSTILE in "".join(page.words)


def test_one_image_without_history_or_search_still_makes_a_page(make_scored, make_evidence):
    evidence = make_evidence(make_scored(truth=[2], slices={}))
    evidence = msgspec.structs.replace(evidence, history=(), search=None)
    page = Page(render_report(evidence))
    assert "No test image is overgrown" in page.text
    assert "The learning rate was fixed at" in page.text
    assert "With so few groups they are rough." in page.text
    assert page.tags.count("svg") == 3
    assert "nan" not in page.text.lower().split()


def test_a_search_without_a_single_result_has_no_plot(evidence):
    failed = Search(trials=(Trial(number=0, lr=1e-3, state="fail"),))
    page = Page(render_report(msgspec.structs.replace(evidence, search=failed)))
    assert page.tags.count("svg") == 5


def test_a_page_with_all_its_pictures_stays_small(make_evidence, tmp_path):
    # A grainy picture of 192 pixels takes about 14 kB as JPEG.
    uri = "data:image/jpeg;base64," + "A" * 20_000
    write_report(tmp_path / "report.html", make_evidence(pictures=[uri] * 48), version="1")
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
