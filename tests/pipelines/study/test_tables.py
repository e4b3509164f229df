import pytest

from components.culture import Modality, Task
from pipelines.study.tables import contrasts, judge, make_row, mean_gain

FIVE = [0.7, 0.8, 0.9, 0.8, 0.8]


def row(cell, values, name="accuracy"):
    return make_row(cell, {str(n): None if value is None else {name: value} for n, value in enumerate(values, 1)})


def test_a_row_has_mean_sd_and_interval_of_its_folds(make_cell):
    made = row(make_cell(), FIVE)
    found = made.figures["accuracy"]
    # SD = sqrt(0.02 / 4); Student's t for 4 degrees of freedom is 2.776445.
    assert (found.mean, found.sd) == (pytest.approx(0.8), pytest.approx(0.0707107, abs=1e-7))
    assert found.low == pytest.approx(0.8 - 2.776445 * 0.0707107 / 5**0.5, abs=1e-6)
    assert made.values["accuracy"] == tuple(FIVE)
    assert made.folds == ("1", "2", "3", "4", "5")
    assert made.figures["roc_auc_micro"].n == 0


def test_a_failed_fold_is_named_and_does_not_count(make_cell):
    made = row(make_cell(), [0.7, None, 0.9])
    assert (made.folds, made.missing) == (("1", "3"), ("2",))
    assert made.figures["accuracy"].mean == pytest.approx(0.8)


def test_the_paper_stands_beside_its_own_backbones_alone(make_cell):
    assert row(make_cell("resnet50"), FIVE).paper["accuracy"] == (0.863, 0.038)
    multi = make_cell("resnet50", modality=Modality.MULTI_STACK)
    assert row(multi, FIVE).paper["accuracy"] == (0.875, 0.045)
    assert row(make_cell("efficientnet_lite0"), FIVE).paper == {}
    cells = make_cell("resnet50", task=Task.ABNORMAL_CELLS)
    assert row(cells, FIVE, "recall").paper["hit_rate"] == (pytest.approx(0.954), pytest.approx(0.0525, abs=1e-4))


def test_the_best_of_each_modality_and_protocol_is_marked(make_cell):
    rows = judge(
        [
            row(make_cell("resnet50"), [0.8, 0.8]),
            row(make_cell("vit"), [0.6, 0.7]),
            row(make_cell("vit", "published"), [0.9, 0.9]),
            row(make_cell("resnet50", "published"), [0.95, 0.97]),
        ]
    )
    assert [made.cell.backbone for made in rows if "accuracy" in made.best] == ["resnet50", "resnet50"]
    errors = judge([row(make_cell(name), values, "mean_class_error") for name, values in (("a", [0.1]), ("b", [0.2]))])
    assert [made.best for made in errors] == [("mean_class_error",), ()]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [([0.9, 0.91, 0.92], "yes"), ([0.7, 0.95, 0.8], "unclear"), ([0.7, 0.7, 0.7], "no"), ([0.5, 0.6, 0.7], "no")],
)
def test_each_network_is_held_against_the_better_baseline_in_its_own_folds(make_cell, values, verdict):
    fixed, fitted, network = judge(
        [
            row(make_cell("local_contrast"), [0.1, 0.1, 0.1]),
            row(make_cell("local_contrast_fitted"), [0.7, 0.7, 0.7]),
            row(make_cell("resnet50"), values),
        ]
    )
    assert network.beats_baseline == verdict
    assert network.advantage.mean == pytest.approx(sum(values) / 3 - 0.7)
    assert fixed.beats_baseline is fitted.beats_baseline is None
    assert fixed.is_baseline
    assert not network.is_baseline


def test_a_failed_fold_is_left_out_of_the_comparison(make_cell):
    *_, network = judge(
        [row(make_cell("local_contrast"), [0.5, 0.9, 0.5]), row(make_cell("resnet50"), [0.6, None, 0.6])]
    )
    assert network.advantage.mean == pytest.approx(0.1)
    assert network.advantage.n == 2


def test_the_leak_is_published_less_grouped(make_cell):
    rows = [
        row(make_cell("resnet50", "published"), [0.9, 0.92, 0.94]),
        row(make_cell("resnet50"), [0.8, 0.8, 0.83]),
        row(make_cell("vit"), [0.5, 0.5, 0.5]),
    ]
    (found,) = contrasts(rows, "protocol", "published", "grouped", paired=False)
    assert (found.label, found.gains["accuracy"].mean) == ("ResNet50", pytest.approx(0.11))
    assert found.gains["accuracy"].low > 0
    assert mean_gain([found], "accuracy") == pytest.approx(0.11)
    assert mean_gain([], "accuracy") is None


def test_clumps_are_compared_fold_by_fold(make_cell):
    kept, masked = (make_cell("vit", modality=Modality.MULTI_STACK, clumps=clumps) for clumps in ("kept", "masked"))
    (found,) = contrasts([row(kept, [0.5, 0.7]), row(masked, [0.6, 0.8])], "clumps", "masked", "kept", paired=True)
    assert found.gains["accuracy"].mean == pytest.approx(0.1)
    assert found.gains["accuracy"].sd == pytest.approx(0)
    assert found.label == "Vision Transformer"
    assert row(masked, [0.5]).label == "Vision Transformer (clumps masked out)"
