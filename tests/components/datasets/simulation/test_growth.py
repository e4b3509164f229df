from collections import Counter
from itertools import pairwise

import pytest

from components.culture import ConfluenceClass, Modality, Position
from components.datasets.simulation.growth import POSITIONS, Growth, make_vessel, plan
from components.errors import InputError

SINGLE, MULTI = Modality.SINGLE_STACK, Modality.MULTI_STACK


def vessels(number: int, seed: int = 0, modality: Modality = SINGLE, growth: Growth | None = None) -> list:
    return [make_vessel(seed, modality, growth or Growth(), index) for index in range(number)]


@pytest.mark.parametrize("position", POSITIONS)
def test_confluence_grows_from_day_to_day(position):
    for vessel in vessels(12):
        curve = [vessel.confluence(day, position) for day in range(1, 12)]
        assert all(before < after for before, after in pairwise(curve))
        assert 0.0 < curve[0] < 0.5
        assert 0.9 < curve[-1] <= 1.0


def test_a_faster_rate_covers_the_floor_sooner():
    slow, fast = (vessels(1, growth=Growth(rate=rate))[0] for rate in (0.4, 1.2))
    assert slow.confluence(1, Position.CENTRE) == fast.confluence(1, Position.CENTRE)
    assert slow.confluence(4, Position.CENTRE) < fast.confluence(4, Position.CENTRE) - 0.2


def test_vessels_of_a_batch_share_donor_lot_and_passage():
    origins: dict[str, set[tuple[str, str, int]]] = {}
    for vessel in vessels(24):
        origins.setdefault(vessel.batch, set()).add((vessel.donor, vessel.lot, vessel.passage))
    assert len(origins) == 6
    assert all(len(origin) == 1 for origin in origins.values())
    assert len({vessel.donor for vessel in vessels(24)}) > 1


def test_vessels_of_other_seeds_and_modalities_have_other_names():
    names = [vessel.name for seed in (0, 1) for kind in Modality for vessel in vessels(5, seed, kind)]
    assert len(set(names)) == len(names)


def test_a_full_plan_takes_every_vessel_daily_at_five_positions():
    shots = plan(90, vessels(3), 6)
    taken = Counter((shot.vessel.name, shot.day) for shot in shots)
    assert len(taken) == 18
    assert set(taken.values()) == {5}
    assert len({(shot.vessel.name, shot.day, shot.position) for shot in shots}) == 90


@pytest.mark.parametrize(("images", "number"), [(1, 1), (7, 3), (25, 10), (100, 12), (113, 4)])
def test_a_partial_plan_takes_distinct_images_evenly(images, number):
    shots = plan(images, vessels(number), 6)
    assert len({(shot.vessel.name, shot.day, shot.position) for shot in shots}) == images
    shares = Counter(shot.vessel.name for shot in shots)
    assert max(shares.values()) - min(shares.values()) <= 1
    days = Counter(shot.day for shot in shots)
    assert max(days.values()) - min(days.values()) <= number
    assert set(days) <= set(range(1, 7))


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize("seed", range(4))
def test_every_class_has_at_least_an_eighth_of_the_images(modality, seed):
    shots = plan(240, vessels(10, seed, modality), Growth().days)
    classes = Counter(
        ConfluenceClass.from_confluence(shot.vessel.confluence(shot.day, shot.position)) for shot in shots
    )
    assert min(classes[label] for label in ConfluenceClass) >= 240 / 8


@pytest.mark.parametrize(
    ("name", "value"), [("seeded", 0.0), ("seeded", 1.0), ("rate", -0.1), ("days", 0), ("days", 100)]
)
def test_a_curve_out_of_range_is_refused(name, value):
    with pytest.raises(InputError, match=f"growth {name} {value} is out of range: give"):
        Growth(**{name: value})
