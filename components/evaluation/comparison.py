"""What a challenger must not have lost against the champion: on the whole, and in each slice of the test images.

A challenger is not worse if the lower bound of its difference to the champion lies above a margin that may be
lost. So what is not shown is refused. Many test images would show even of a small loss that it is within the
margin, and a year of small losses is a large one: so on the images themselves it must not be behind, either.
Where a slice is too small to show anything, it is the other way round: it refuses only a challenger that it
shows to be worse.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from components.evaluation.paired import Difference, Ratio, differences
from components.evaluation.resampling import Integers
from components.evaluation.verdict import Rule, tell, weigh
from components.settings import GateSettings

NOT_WORSE, NOT_BEHIND, SMALL = "not worse than the champion", "not behind on the test images", "worse in no small slice"

# With fewer vessels not even a loss in all of them is worth a word.
_FEWEST_GROUPS = 4


class Compared(NamedTuple):
    """A figure of both models on the same images.

    Attributes:
        rule: Name of the rule about it.
        what: Name of the figure within a sentence.
        mine: The challenger's.
        theirs: The champion's.
        lower_is_better: Whether a figure that rises is a loss.
    """

    rule: str
    what: str
    mine: Ratio
    theirs: Ratio
    lower_is_better: bool = False


class Slice(NamedTuple):
    """The test images that share one value of one field."""

    field: str
    value: str
    rows: Integers

    def __str__(self) -> str:
        return f"{self.field} {self.value}"


def compare(
    figures: Sequence[Compared],
    slices: Mapping[str, Sequence[str]],
    groups: Sequence[str],
    settings: GateSettings,
    note: str = "",
) -> list[Rule]:
    """Give the rules on what a challenger may have lost.

    Args:
        figures: What is compared on all images; the first one in the slices, too.
        slices: By field, each image's value; '' where unknown.
        groups: The split group of each image.
        settings: Margins, confidence, and which slices are large enough.
        note: What a reader must know of every comparison.
    """
    pairs = [(each.mine, each.theirs) for each in figures]
    whole = differences(pairs, groups, settings)
    rules = [_whole(one, apart, settings, note) for one, apart in zip(figures, whole, strict=True)]
    rules.insert(1, _not_behind(figures[0], whole[0], settings))
    found = slices_of(slices, groups)
    within = list(zip(found, _within(figures[0], found, groups, settings, settings.confidence), strict=True))
    large = [(each, apart) for each, apart in within if _is_large(apart, settings)]
    small = [each for each, apart in within if not _is_large(apart, settings) and apart.groups >= _FEWEST_GROUPS]
    return [*rules, *_large(figures[0], large, settings), *_small(figures[0], small, groups, settings)]


def no_champion() -> Rule:
    """Give the rule that stands where there is nothing to be compared with."""
    note = "there is no champion yet"
    return Rule(name=NOT_WORSE, figure=None, bound=None, relation=">=", passed=True, note=note, unit="points")


def slices_of(slices: Mapping[str, Sequence[str]], groups: Sequence[str]) -> list[Slice]:
    """Give the slices that can be looked at: of known value, of some groups, none of them the whole, each once."""
    found, seen = [], set()
    for field, values in slices.items():
        for value in sorted(set(values) - {""}):
            rows = np.flatnonzero(np.asarray(values) == value)
            few = len({groups[row] for row in rows.tolist()}) < _FEWEST_GROUPS
            if few or len(rows) == len(values) or rows.tobytes() in seen:
                continue
            seen.add(rows.tobytes())
            found.append(Slice(field, value, rows))
    return found


def _is_large(apart: Difference, settings: GateSettings) -> bool:
    """Say whether enough images have a say: where there is no cell and none was found, there is nothing to lose."""
    return apart.n >= settings.slice_images and apart.groups >= settings.slice_groups


def _whole(one: Compared, apart: Difference, settings: GateSettings, note: str) -> Rule:
    told = _told(apart, settings.confidence, one.lower_is_better)
    return _rule(one, one.rule, apart, settings.margin, "; ".join(filter(None, (told, note))), "the champion's")


def _not_behind(one: Compared, apart: Difference, settings: GateSettings) -> Rule:
    what = f"{_capital(one.what)} on the test images"
    return weigh(
        NOT_BEHIND,
        apart.value,
        ">=",
        0.0 - settings.max_loss,
        refusal=f"{what} is {{figure}} below the champion's, where {{bound}} are allowed.",
        unknown=_unknown(one, apart),
        free=settings.max_loss == 1 or settings.margin == 1,
        note=f"difference in {one.what}",
        unit="points",
    )


def _rule(one: Compared, name: str, apart: Difference, margin: float, note: str, whose: str) -> Rule:
    bound = apart.high if one.lower_is_better else apart.low
    side = "above" if one.lower_is_better else "below"
    return weigh(
        name,
        bound,
        "<=" if one.lower_is_better else ">=",
        margin if one.lower_is_better else 0.0 - margin,
        refusal=f"{_capital(one.what)} may lie {{figure}} {side} {whose}, where {{bound}} are allowed ({note}).",
        unknown=_unknown(one, apart),
        free=margin == 1,
        note=note,
        unit="points",
    )


def _large(one: Compared, slices: Sequence[tuple[Slice, Difference]], settings: GateSettings) -> list[Rule]:
    rules = []
    for each, apart in slices:
        note = f"{_told(apart, settings.confidence, one.lower_is_better)}, {apart.n} images"
        whose = f"the champion's where {each.field} is {each.value}"
        rules.append(_rule(one, f"not worse in {each}", apart, settings.slice_margin, note, whose))
    return rules


def _small(one: Compared, slices: Sequence[Slice], groups: Sequence[str], settings: GateSettings) -> list[Rule]:
    """Give the one rule on all slices that are too small for a margin, their number allowed for."""
    if not slices:
        return []
    confidence = 1 - (1 - settings.confidence) / len(slices)
    found = _within(one, slices, groups, settings, confidence)
    known = [(apart.high, place) for place, apart in enumerate(found) if apart.high is not None]
    if not known:
        return []
    high, place = min(known)
    each, apart = slices[place], found[place]
    told = f"{_points(apart.value)} in {apart.n} images of {apart.groups} groups"
    sure = f"at most {_points(high)} with {_percent(confidence)} confidence"
    rule = weigh(
        SMALL,
        high,
        ">=",
        0.0,
        refusal=f"{_capital(one.what)} is at least {{figure}} below the champion's where {each.field} is {each.value} "
        f"({told}).",
        free=settings.slice_margin == 1,
        note=f"of {len(slices)} slices the worst: in {each} the difference is {told}, {sure}",
        unit="points",
    )
    return [rule]


def _within(
    one: Compared, slices: Sequence[Slice], groups: Sequence[str], settings: GateSettings, confidence: float
) -> list[Difference]:
    if not slices:
        return []
    pairs = []
    for each in slices:
        inside = np.zeros(len(groups))
        inside[each.rows] = 1
        pairs.append(tuple(Ratio(*(part * inside for part in ratio)) for ratio in (one.mine, one.theirs)))
    return differences([(mine, theirs) for mine, theirs in pairs], groups, settings, confidence)


def _told(apart: Difference, confidence: float, lower_is_better: bool) -> str:
    if apart.value is None:
        return ""
    side = "upper" if lower_is_better else "lower"
    return (
        f"difference {_points(apart.value)}, of which this is the {side} bound with {_percent(confidence)} confidence "
        f"over {apart.groups} groups"
    )


def _unknown(one: Compared, apart: Difference) -> str:
    if apart.value is None:
        return f"no test image has a say in {one.what}; add such images"
    return "the test images come from one group, which says nothing of others; add vessels to the test part"


def _points(value: float | None) -> str:
    return "unknown" if value is None else tell(value, "points")


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
