import numpy as np
import pytest

from components.evaluation.comparison import NOT_BEHIND, NOT_WORSE, SMALL, Compared, compare, no_champion, slices_of
from components.evaluation.paired import Ratio
from components.settings import GateSettings

VESSELS, IMAGES = 24, 4
GROUPS = tuple(f"v{row // IMAGES}" for row in range(VESSELS * IMAGES))
# The first 16 vessels are of one laboratory, the last 8 of another.
LAB = tuple("north" if row < 16 * IMAGES else "south" for row in range(len(GROUPS)))
SETTINGS = GateSettings(bootstrap=400)


def accuracy(lost=(), won=()):
    """The challenger is wrong in some images in which the champion is right, and the other way round."""
    mine, theirs = np.ones(len(GROUPS)), np.ones(len(GROUPS))
    mine[list(lost)], theirs[list(won)] = 0, 0
    one = np.ones(len(GROUPS))
    return Compared(NOT_WORSE, "accuracy", Ratio(mine, one), Ratio(theirs, one))


def rules_of(rules):
    return {rule.name: rule for rule in rules}


def refused(rules):
    return [rule.name for rule in rules if not rule.passed]


def test_a_slice_is_of_known_value_of_some_vessels_not_the_whole_and_named_once():
    slices = {
        "source": LAB,
        "batch": LAB,  # the same images once more
        "donor": ("",) * len(GROUPS),
        "lot": ("only",) * len(GROUPS),
        "passage": tuple("3" if row < 3 * IMAGES else "" for row in range(len(GROUPS))),  # three vessels
    }
    assert [(each.field, each.value, len(each.rows)) for each in slices_of(slices, GROUPS)] == [
        ("source", "north", 64),
        ("source", "south", 32),
    ]


def test_a_slice_large_enough_has_a_rule_of_its_own_and_the_others_share_one():
    rules = compare([accuracy()], {"source": LAB}, GROUPS, SETTINGS)
    assert [rule.name for rule in rules] == [NOT_WORSE, NOT_BEHIND, "not worse in source north", SMALL]
    assert refused(rules) == []
    larger = GateSettings(bootstrap=400, slice_images=32, slice_groups=8)
    names = [rule.name for rule in compare([accuracy()], {"source": LAB}, GROUPS, larger)]
    assert names[2:] == ["not worse in source north", "not worse in source south"]


def test_a_loss_in_a_large_slice_alone_is_refused_where_it_is():
    # Twelve images lost in the north, thirty-two won in the south: far better on the whole.
    lost, won = range(0, 48, 4), range(64, 96)
    rules = compare([accuracy(lost, won)], {"source": LAB}, GROUPS, SETTINGS)
    assert refused(rules) == ["not worse in source north"]
    rule = rules_of(rules)["not worse in source north"]
    assert rule.figure < -12 / 64 and rule.bound == -0.1
    assert "difference -18.8 points" in rule.note and "64 images" in rule.note
    assert rule.reason.startswith("Accuracy may lie ")
    assert "below the champion's where source is north, where 10.0 points are allowed" in rule.reason


def test_a_small_slice_refuses_only_a_loss_that_it_shows():
    won = range(0, 64, 4)
    # One image lost in each of the eight vessels of the south.
    everywhere = compare([accuracy(range(64, 96, 4), won)], {"source": LAB}, GROUPS, SETTINGS)
    assert refused(everywhere) == [SMALL]
    rule = rules_of(everywhere)[SMALL]
    assert rule.reason == (
        "Accuracy is at least 25.0 points below the champion's where source is south "
        "(-25.0 points in 32 images of 8 groups)."
    )
    # The same two images lost in one vessel may be that vessel's fault.
    once = compare([accuracy((64, 65), won)], {"source": LAB}, GROUPS, SETTINGS)
    assert refused(once) == []
    assert "of 1 slices the worst: in source south the difference is -6.2 points" in rules_of(once)[SMALL].note


def test_the_more_small_slices_the_more_one_of_them_must_show():
    lost = [64 + 4 * vessel for vessel in range(5)]
    few = compare([accuracy(lost)], {"source": LAB}, GROUPS, SETTINGS)
    days = {f"field {number}": tuple(str((row + number) % 7) for row in range(96)) for number in range(7)}
    many = compare([accuracy(lost)], {"source": LAB, **days}, GROUPS, GateSettings(bootstrap=400, slice_images=60))
    assert "in source south" in rules_of(few)[SMALL].note
    assert rules_of(many)[SMALL].figure > rules_of(few)[SMALL].figure


def test_where_less_is_better_a_rise_is_the_loss():
    one = np.ones(len(GROUPS))
    rising = np.zeros(len(GROUPS))
    rising[:8] = 1
    figures = [
        accuracy(),
        Compared("not worse in misses", "the share of misses", Ratio(rising, one), Ratio(0 * one, one), True),
    ]
    rule = rules_of(compare(figures, {}, GROUPS, SETTINGS))["not worse in misses"]
    assert (rule.passed, rule.relation, rule.bound) == (False, "<=", 0.05)
    assert rule.figure > 8 / 96
    assert "points above the champion's" in rule.reason
    falling = [figures[0], figures[1]._replace(mine=figures[1].theirs, theirs=figures[1].mine)]
    assert rules_of(compare(falling, {}, GROUPS, SETTINGS))["not worse in misses"].passed


@pytest.mark.parametrize(("margin", "passed"), [(0.5, False), (1.0, True)])
def test_one_vessel_shows_nothing_unless_anything_goes(margin, passed):
    alone = ("v0",) * len(GROUPS)
    rules = compare([accuracy(won=range(4))], {"source": LAB}, alone, GateSettings(margin=margin))
    assert refused(rules) == ([] if passed else [NOT_WORSE])
    assert "come from one group, which says nothing of others" in rules_of(rules)[NOT_WORSE].note


def test_whoever_may_lose_everything_may_lose_it_in_every_slice():
    anything = GateSettings(bootstrap=400, margin=1, slice_margin=1)
    assert refused(compare([accuracy(range(96))], {"source": LAB}, GROUPS, anything)) == []


def test_a_note_on_the_champion_stands_with_the_comparison():
    (rule, *_) = compare([accuracy()], {}, GROUPS, SETTINGS, note="it was shown the answers")
    assert rule.note.endswith("over 24 groups; it was shown the answers")


def test_without_a_champion_there_is_nothing_to_lose():
    rule = no_champion()
    assert (rule.passed, rule.figure, rule.bound, rule.note) == (True, None, None, "there is no champion yet")
