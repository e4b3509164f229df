import itertools

import pytest

from components.bundle import MODEL_FILE
from components.errors import IntegrityError
from components.evaluation.costs import Costs, cost_rules, in_turn, measure_costs
from components.settings import GateSettings


class Clock:
    """Advances by what the answers say that they take."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def answer(self, name, *seconds):
        left = itertools.chain(seconds, itertools.repeat(seconds[-1]))

        def run():
            self.calls.append(name)
            self.now += next(left)

        return run


def test_models_take_turns_and_the_middle_one_of_their_times_counts():
    clock = Clock()
    # The first answer loads and compiles, and one in the middle is disturbed.
    quick, slow = clock.answer("quick", 0.9, 0.01, 0.5, 0.01), clock.answer("slow", 0.9, 0.03, 0.03, 0.03)
    assert in_turn([quick, slow], rounds=5, clock=clock) == pytest.approx([0.01, 0.03])
    assert clock.calls == ["quick", "slow"] * 6


def test_a_slow_model_gets_fewer_rounds_but_never_fewer_than_three():
    clock = Clock()
    assert in_turn([clock.answer("slow", 9.0)], rounds=15, clock=clock) == [9.0]
    assert len(clock.calls) == 1 + 3


@pytest.mark.parametrize(
    ("costs", "refused", "reason"),
    [
        (Costs(0.02, 0.01, 3_000_000), [], ""),
        (Costs(0.02, None, 3_000_000), [], ""),
        (Costs(1.5, 1.4, 3_000_000), ["latency"], "One image takes 1500 ms, more than 1000 ms."),
        (
            Costs(0.04, 0.01, 3_000_000),
            ["latency beside the champion's"],
            "One image takes 4 times as long as the champion needs, more than 3 times; if that is meant, "
            "set gate.max_slowdown.",
        ),
        (Costs(0.01, 0.01, 501_000_000), ["size"], "The exported network is 501 MB, more than 500 MB."),
    ],
)
def test_each_cost_has_its_bound(costs, refused, reason):
    rules = cost_rules(costs, GateSettings())
    assert [rule.name for rule in rules if not rule.passed] == refused
    assert "".join(rule.reason for rule in rules) == reason
    assert ("latency beside the champion's" in [rule.name for rule in rules]) is (costs.champion_latency is not None)


def test_bundles_are_measured_by_their_known_image(make_bundle, make_detector, tmp_path):
    make_bundle(tmp_path / "classifier")
    make_detector(tmp_path / "detector")
    costs = measure_costs(tmp_path / "classifier", tmp_path / "detector")
    assert costs.latency > 0 and costs.champion_latency > 0
    assert costs.size == (tmp_path / "classifier" / MODEL_FILE).stat().st_size
    assert measure_costs(tmp_path / "detector", None).champion_latency is None


def test_an_altered_bundle_is_not_measured(make_bundle, tmp_path):
    make_bundle(tmp_path)
    (tmp_path / MODEL_FILE).write_bytes(b"no model")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        measure_costs(tmp_path, None)
