from statistics import fmean, stdev

import pytest

from components.culture import Modality
from components.evaluation.published import FIGURES, NAMES, label, table_1, table_2
from components.models.backbones import names


def test_six_backbones_have_a_row_in_both_modalities():
    theirs = [name for name in NAMES if table_1(name, Modality.SINGLE_STACK)]
    assert len(theirs) == 6
    for name in theirs:
        for modality in Modality:
            assert set(table_1(name, modality)) == set(FIGURES)
    assert table_1("resnet50", Modality.MULTI_STACK)["accuracy"] == (0.875, 0.045)
    assert table_1("efficientnet_lite0", Modality.SINGLE_STACK) == {}


def test_the_hit_rates_have_the_mean_and_sd_that_the_paper_gives():
    rates = table_2("resnet50")["hit_rate"]
    assert fmean(rates) == pytest.approx(0.954, abs=5e-4)
    # The paper's SD divides by n, not by n - 1.
    assert stdev(rates) * (4 / 5) ** 0.5 == pytest.approx(0.047, abs=1e-3)
    assert table_2("mobilenet_v3") == {}


def test_every_backbone_has_a_name_for_people():
    assert all(label(name) != name for name in names())
    assert label("new") == "new"
