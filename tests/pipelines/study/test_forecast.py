import msgspec
import pytest

from components.datasets.folds import Fold
from pipelines.study.forecast import Forecast, told
from pipelines.study.plan import Unit


@pytest.fixture
def make_unit(make_cell):
    def make(key, backbone="resnet50", *, epochs=10, trials=0, images=100):
        return Unit(
            key=key,
            cell=make_cell(backbone),
            fold=Fold(key, tuple(range(images)), (), ()),
            training={"epochs": epochs, "learning_rate": None if trials else 1e-3},
            search={"trials": trials, "epochs": 5},
            detection={},
        )

    return make


def forecast(*units, processes=1):
    return Forecast({unit.key: unit for unit in units}, processes)


def test_nothing_is_known_before_the_first_epoch(make_unit):
    left = forecast(make_unit("a")).left()
    assert (left.likely, left.most) == (None, None)


def test_epochs_are_counted_down_at_the_pace_that_was_measured(make_unit):
    made = forecast(make_unit("a"), make_unit("b"))
    made.epoch("a", 1, 2.0)
    made.epoch("a", 2, 4.0)
    # 8 and 10 epochs of 3 seconds.
    assert made.left().most == pytest.approx(54)
    assert made.left(["b"]).most == pytest.approx(30)


def test_two_at_a_time_take_half_as_long_but_never_less_than_the_longest(make_unit):
    made = forecast(make_unit("a"), make_unit("b"), make_unit("c"), processes=2)
    made.epoch("a", 1, 1.0)
    assert made.left().most == pytest.approx(29 / 2)
    assert made.left(["b"]).most == pytest.approx(10)


def test_trials_cost_their_epochs_too(make_unit):
    made = forecast(make_unit("a", trials=4), make_unit("b", trials=4))
    made.trial("a", 4)
    made.epoch("a", 1, 1.0)
    assert made.left(["a"]).most == pytest.approx(9)
    assert made.left(["b"]).most == pytest.approx(10 + 20)


def test_folds_that_stopped_early_make_others_likely_to(make_unit, make_result, make_cell):
    made = forecast(make_unit("a"), make_unit("b"))
    stopped = msgspec.structs.replace(make_result(make_cell(), "1"), images={"train": 100})
    made.found("a", stopped)  # 3 of 10 epochs, a second each
    left = made.left()
    assert (left.likely, left.most) == (pytest.approx(3), pytest.approx(10))


def test_a_backbone_that_was_not_measured_is_guessed_by_its_size(make_unit):
    made = forecast(make_unit("a", "mobilenet_v3"), make_unit("b", "resnet50"))
    made.epoch("a", 10, 1.0)
    made.finished("a", None)
    left = made.left()
    assert left.guessed
    assert left.most == pytest.approx(10 * 4.1 / 0.22)


def test_what_a_fold_takes_beside_its_epochs_is_counted_for_those_to_come(make_unit, make_result, make_cell):
    made = forecast(make_unit("a"), make_unit("b"))
    made.begun("a", 100.0)
    for number in (1, 2, 3):
        made.epoch("a", number, 1.0)
    made.finished("a", make_result(make_cell(), "1"), 108.0)  # 3 epochs of a second in 8 seconds
    assert made.left().most == pytest.approx(10 + 5)
    made.begun("b", 108.0)
    assert made.left().most == pytest.approx(10)


def test_nothing_is_left_in_the_end(make_unit):
    made = forecast(make_unit("a"))
    made.finished("a", None)
    assert made.left().most == 0


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (80, "80 s"), (600, "10 min"), (7200, "2.0 h"), (259200, "3.0 days")]
)
def test_times_are_told_as_people_do(seconds, words):
    assert told(seconds) == words
