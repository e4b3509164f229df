"""What a gate says: rules that each show their figure and bound, and the verdict that they make together."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

# Figures that differ by less than this are equal.
_SAME = 1e-9

Relation = Literal[">=", ">", "<="]
# What a figure is a number of; "points" are hundredths of a share, with their sign.
Unit = Literal["%", "points", "images", "ms", "times", "MB"]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule and how the model fared.

    Attributes:
        name: What is looked at.
        figure: The model's value; None where it cannot be computed. Shares and their differences are fractions of 1.
        bound: What the value is held against; None where the rule does not apply.
        relation: How the figure must stand to the bound: ``>=``, ``>`` or ``<=``.
        passed: The verdict.
        note: What else a reader must know, such as an interval; may be empty.
        unit: In which people read figure and bound.
        reason: The sentence that says why it refused; empty where it passed.
    """

    name: str
    figure: float | None
    bound: float | None
    relation: Relation
    passed: bool
    note: str = ""
    unit: Unit = "%"
    reason: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model may be released.

    Attributes:
        passed: Whether every rule passed.
        reasons: A sentence a rule that refused; empty when all passed.
        rules: Every rule, in the order of judging.
        challenger: Digest of the model judged.
        champion: Digest of the model it was held against, if there is one.
        n: Test images that both were scored on.
        groups: Split groups (vessels) among them.
    """

    passed: bool
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...]
    challenger: str
    champion: str | None
    n: int
    groups: int


class Judged(Protocol):
    """A model's answers, of whatever kind, for some images."""

    @property
    def model(self) -> str:
        """Digest of the model."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The split group of each image."""

    def __len__(self) -> int: ...


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda figure, bound: figure >= bound - _SAME,
    "<=": lambda figure, bound: figure <= bound + _SAME,
    ">": lambda figure, bound: figure > bound + _SAME,
}
_SIGNS = {">=": "\N{GREATER-THAN OR EQUAL TO}", "<=": "\N{LESS-THAN OR EQUAL TO}", ">": ">"}


def weigh(
    name: str,
    figure: float | None,
    relation: Relation,
    bound: float,
    *,
    refusal: str,
    unknown: str = "",
    free: bool = False,
    note: str = "",
    unit: Unit = "%",
) -> Rule:
    """Hold a figure against its bound. Not knowing is not passing.

    Args:
        name: What is looked at.
        figure: None where it cannot be computed.
        relation: How it must stand to the bound.
        bound: Not met by a figure beyond it; figures that are almost equal are equal.
        refusal: The sentence to give if the bound is not met; with ``{figure}`` and ``{bound}`` in it, without sign.
        unknown: Why there is no figure, and what to do.
        free: Whether the bound allows anything, so that no figure is needed.
        note: What else a reader must know.
        unit: In which people read figure and bound.
    """
    if figure is None:
        reason = "" if free else f"{name.capitalize()} cannot be judged: {unknown}."
        return Rule(
            name=name,
            figure=None,
            bound=bound,
            relation=relation,
            passed=free,
            note=unknown or note,
            unit=unit,
            reason=reason,
        )
    passed = free or _COMPARE[relation](figure, bound)
    # Not str.format: the sentence may quote what a person called a laboratory or a lot.
    told = refusal.replace("{figure}", _unsigned(figure, bound, unit))
    told = told.replace("{bound}", tell(abs(bound), unit, signed=False))
    return Rule(
        name=name,
        figure=figure,
        bound=bound,
        relation=relation,
        passed=passed,
        note=note,
        unit=unit,
        reason="" if passed else told,
    )


def conclude(rules: Sequence[Rule], challenger: Judged, champion: Judged | None) -> Verdict:
    """Put rules together as the verdict on a model."""
    return Verdict(
        passed=all(rule.passed for rule in rules),
        reasons=tuple(rule.reason for rule in rules if not rule.passed),
        rules=tuple(rules),
        challenger=challenger.model,
        champion=champion.model if champion else None,
        n=len(challenger),
        groups=len(set(challenger.groups)),
    )


def _unsigned(figure: float, bound: float, unit: Unit) -> str:
    """Write a figure so finely that it is told apart from a bound that it misses by little."""
    told = [tell(abs(each), unit, signed=False, digits=digits) for digits in (1, 3) for each in (figure, bound)]
    return told[2] if told[0] == told[1] else told[0]


def tell(value: float, unit: Unit, *, signed: bool = True, digits: int = 1) -> str:
    """Write a figure for people, as in ``87.5 %`` or ``+1.2 points``."""
    if unit in ("%", "points"):
        rounded = round(100 * value, digits) + 0.0
        sign = "+" if signed and rounded and unit == "points" else ""
        return f"{rounded:{sign}.{digits}f} {unit}"
    return f"{value:.0f} {unit}" if unit == "images" or abs(value) >= 100 else f"{value:.3g} {unit}"


def figure_of(rule: Rule) -> str:
    """Write a rule's figure for people; a dash where there is none."""
    return "\N{EN DASH}" if rule.figure is None else tell(rule.figure, rule.unit)


def bound_of(rule: Rule) -> str:
    """Write a rule's bound with its relation for people, as in ``≥ 50.0 %``; a dash where it does not apply."""
    return "\N{EN DASH}" if rule.bound is None else f"{_SIGNS[rule.relation]} {tell(rule.bound, rule.unit)}"
