"""Cultures over time: donors, seeding runs and vessels, and the confluence at each place on each day."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from components.culture import Modality, Position
from components.datasets.simulation.habit import Habit
from components.errors import InputError

POSITIONS = tuple(Position)
VESSELS_A_BATCH = 4
DONORS = 6
PASSAGES = (3, 4, 5, 6)


@dataclass(frozen=True, slots=True)
class Growth:
    """The logistic growth curve that vessels follow, each with some change of its own.

    By the defaults about a third of the images lies below 40 %, a sixth to a fifth in each of the two
    bands between, and the rest above 80 %.

    Attributes:
        seeded: Confluence on the first day on which images are taken, 0 to 1 exclusive.
        rate: Growth per day; 0.78 doubles a thin culture in 21 hours.
        days: Days on which images are taken.

    Raises:
        InputError: if a value is out of range.
    """

    seeded: float = 0.17
    rate: float = 0.78
    days: int = 6

    def __post_init__(self) -> None:
        if not 0.0 < self.seeded < 1.0:
            raise InputError(f"growth seeded {self.seeded} is out of range: give a fraction between 0 and 1")
        if not 0.0 <= self.rate <= 5.0:
            raise InputError(f"growth rate {self.rate} is out of range: give 0 to 5 a day")
        if not 1 <= self.days <= 99:
            raise InputError(f"growth days {self.days} is out of range: give 1 to 99")


@dataclass(frozen=True, slots=True)
class Vessel:
    """One culture vessel.

    Attributes:
        index: Its number, from 0, which fixes all chance in it.
        batch: The seeding run that it belongs to, with its donor, lot and passage.
        start: Log-odds of its mean confluence on the first day.
        rate: Log-odds gained a day.
        tilt: What each position's log-odds differ from the mean by, all days alike.
        habit: How its cells look.
    """

    index: int
    name: str
    batch: str
    donor: str
    lot: str
    passage: int
    start: float
    rate: float
    tilt: tuple[float, ...]
    habit: Habit

    def confluence(self, day: int, position: Position) -> float:
        """Give the confluence at a place, ``day`` counted from 1; it never falls from day to day."""
        odds = self.start + self.tilt[POSITIONS.index(position)] + self.rate * (day - 1)
        return float(1.0 / (1.0 + np.exp(-odds)))


class Shot(NamedTuple):
    """One image to be taken."""

    vessel: Vessel
    day: int
    position: Position


def generator(seed: int, modality: Modality, *key: int) -> np.random.Generator:
    """Give the source of chance of one thing, the same however many other things are drawn."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(tuple(Modality).index(modality), *key)))


def make_vessel(seed: int, modality: Modality, growth: Growth, index: int) -> Vessel:
    """Give a vessel by its number."""
    prefix = f"{modality.value[0].upper()}{seed}"
    run = index // VESSELS_A_BATCH
    of_run = generator(seed, modality, 0, run)
    donor, passage = int(of_run.integers(DONORS)), int(of_run.choice(PASSAGES))
    of_donor = generator(seed, modality, 1, donor)
    donor_rate, donor_scale, slenderness = (
        of_donor.normal(0.0, 0.06),
        of_donor.normal(0.0, 0.06),
        of_donor.normal(0, 0.12),
    )
    chance = generator(seed, modality, 2, index)
    # Cells of later passages grow more slowly and larger.
    age = passage - float(np.mean(PASSAGES))
    return Vessel(
        index=index,
        name=f"{prefix}-V{index + 1:03d}",
        batch=f"{prefix}-B{run + 1:02d}",
        donor=f"{prefix}-D{donor + 1}",
        lot=f"{prefix}-L{run + 1:02d}",
        passage=passage,
        start=float(np.log(growth.seeded / (1.0 - growth.seeded)) + chance.normal(0.0, 0.3)),
        rate=growth.rate * float(np.exp(donor_rate + chance.normal(0.0, 0.06))) * (1.0 - 0.03 * age),
        tilt=tuple(float(value) for value in chance.normal(0.0, 0.3, len(POSITIONS))),
        habit=Habit(
            scale=float(np.exp(donor_scale + chance.normal(0.0, 0.04))) * (1.0 + 0.03 * age),
            slenderness=float(np.exp(slenderness)),
            evenness=float(chance.uniform(0.3, 0.8)),
        ),
    )


def plan(images: int, vessels: list[Vessel], days: int) -> list[Shot]:
    """Spread images over vessels, each position's days in turn and evenly, sorted as files are."""
    shots = []
    for number, vessel in enumerate(vessels):
        share = images // len(vessels) + (number < images % len(vessels))
        for turn in range(-(-share // days)):
            position = POSITIONS[(vessel.index + turn) % len(POSITIONS)]
            wanted = min(days, share - turn * days)
            taken = {(vessel.index + step * days // wanted) % days + 1 for step in range(wanted)}
            shots += [Shot(vessel, day, position) for day in taken]
    return sorted(shots, key=lambda shot: (shot.vessel.index, shot.day, shot.position))
