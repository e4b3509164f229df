"""One check of a batch: its figure, its bound and its verdict."""

from typing import Literal

import msgspec


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a batch was checked for.

    Attributes:
        name: What was checked.
        figure: What was found; None where it could not be judged.
        bound: What it is held against; None where the figure is told and stops nothing.
        relation: How figure and bound must stand to each other.
        passed: Whether the batch may go on.
        note: What the figure rests on, or why there is none.
        share: Whether figure and bound are shares, 0 to 1.
    """

    name: str
    figure: float | None
    bound: float | None
    relation: Literal["<="] = "<="
    passed: bool
    note: str
    share: bool = True


def at_most(name: str, figure: float | None, bound: float | None, note: str, *, share: bool = True) -> Check:
    """Check that a figure does not exceed its bound; without a figure or a bound it cannot."""
    passed = figure is None or bound is None or figure <= bound
    return Check(name=name, figure=figure, bound=bound, passed=passed, note=note, share=share)
