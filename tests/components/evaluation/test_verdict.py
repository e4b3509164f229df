import pytest

from components.evaluation.verdict import Rule, bound_of, conclude, figure_of, tell, weigh


class Answers:
    model, groups = "c" * 64, ("a", "a", "b")

    def __len__(self):
        return 3


@pytest.mark.parametrize(
    ("figure", "relation", "bound", "passed"),
    [
        (0.5, ">=", 0.5, True),
        (0.4999, ">=", 0.5, False),
        (0.1 + 0.2, "<=", 0.3, True),  # equal but for rounding
        (0.31, "<=", 0.3, False),
        (0.3, ">", 0.3, False),
        (0.31, ">", 0.3, True),
    ],
)
def test_a_figure_is_held_against_its_bound(figure, relation, bound, passed):
    rule = weigh("share", figure, relation, bound, refusal="It is {figure}, not {bound}.")
    assert rule.passed is passed
    assert bool(rule.reason) is not passed


def test_a_reason_tells_figure_and_bound_as_people_read_them():
    loss = weigh("loss", -0.0712, ">=", -0.05, refusal="{figure} lost, {bound} allowed.", unit="points")
    assert loss.reason == "7.1 points lost, 5.0 points allowed."
    narrow = weigh("loss", -0.10004, ">=", -0.1, refusal="{figure} lost, {bound} allowed.", unit="points")
    assert narrow.reason == "10.004 points lost, 10.0 points allowed."
    slow = weigh("latency", 1234.5, "<=", 1000, refusal="It takes {figure}, more than {bound}.", unit="ms")
    assert slow.reason == "It takes 1234 ms, more than 1000 ms."


def test_a_reason_may_quote_anything():
    rule = weigh("loss", -0.2, ">=", -0.1, refusal="{figure} lost in lot {0} {x!r} }{.", unit="points")
    assert rule.reason == "20.0 points lost in lot {0} {x!r} }{."


def test_what_is_unknown_is_refused_unless_anything_goes():
    rule = weigh("recall", None, ">=", 0.5, refusal="", unknown="no image shows a cell; add such images")
    assert (rule.passed, rule.reason) == (False, "Recall cannot be judged: no image shows a cell; add such images.")
    free = weigh("recall", None, ">=", 0.0, refusal="", unknown="no image shows a cell", free=True)
    assert (free.passed, free.reason, free.note) == (True, "", "no image shows a cell")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.875, "%", "87.5 %"),
        (0.0123, "points", "+1.2 points"),
        (-0.05, "points", "-5.0 points"),
        (-0.0001, "points", "0.0 points"),
        (3, "images", "3 images"),
        (0.577, "ms", "0.577 ms"),
        (214.6, "ms", "215 ms"),
        (1012.4, "ms", "1012 ms"),
        (1.01, "times", "1.01 times"),
    ],
)
def test_figures_are_written_with_their_unit(value, unit, text):
    assert tell(value, unit) == text


def test_a_rule_without_figure_or_bound_shows_dashes():
    rule = Rule(name="compared", figure=None, bound=None, relation=">=", passed=True)
    assert (figure_of(rule), bound_of(rule)) == ("–", "–")
    rule = Rule(name="compared", figure=-0.03, bound=-0.05, relation=">=", passed=True, unit="points")
    assert (figure_of(rule), bound_of(rule)) == ("-3.0 points", "≥ -5.0 points")


def test_one_rule_that_refuses_is_enough():
    good = weigh("one", 1.0, ">=", 0.5, refusal="")
    bad = weigh("two", 0.1, ">=", 0.5, refusal="Two is {figure}.")
    verdict = conclude([good, bad], Answers(), None)
    assert (verdict.passed, verdict.reasons) == (False, ("Two is 10.0 %.",))
    assert (verdict.challenger, verdict.champion, verdict.n, verdict.groups) == ("c" * 64, None, 3, 2)
    assert conclude([good], Answers(), Answers()).passed
