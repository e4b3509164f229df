"""What a study found, in sentences; each says no more than its interval allows."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import msgspec

from pipelines.study.tables import Contrast, Row
from pipelines.study.writers import MODALITY_NAMES

if TYPE_CHECKING:
    from pipelines.study.run import Study

_PROTOCOL_WORDS = {
    "grouped": "with vessels kept whole",
    "published": "by the published protocol",
    "left_out": "on values left out",
}


def findings(study: "Study") -> list[str]:
    """Say what the tables show, modality by modality, then what failed."""
    told: list[str] = []
    for modality in dict.fromkeys(row.cell.modality for row in study.table_1):
        rows = [row for row in study.table_1 if row.cell.modality == modality]
        where = MODALITY_NAMES[modality].capitalize()
        told += [f"{where}: {said}" for said in (*_best(rows), *_baseline(rows), *_left_out(rows))]
        told += [f"{where}: {said}" for said in _leak([each for each in study.leak if each.cell.modality == modality])]
    told += [*_clumps(study.clumps), *_detection(study.table_2)]
    return told + [f"No result: {name}: {why}" for name, why in study.failures.items()] + list(study.notes)


def _networks(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not row.is_baseline and row.figures["accuracy"].mean is not None]


def _accuracy(row: Row) -> float:
    return row.figures["accuracy"].mean or 0.0


def _of(rows: Sequence[Row], protocol: str) -> list[Row]:
    return [row for row in rows if row.cell.protocol == protocol]


def _best(rows: Sequence[Row]) -> Iterator[str]:
    for protocol in ("grouped", "published"):
        if networks := _networks(_of(rows, protocol)):
            best = max(networks, key=_accuracy)
            asides = []
            if protocol == "grouped":
                same = msgspec.structs.replace(best.cell, protocol="published")
                asides += [f"{_told(row)} by the published protocol" for row in _networks(rows) if row.cell == same]
            if "accuracy" in best.paper:
                asides.append(
                    f"{_share(*best.paper['accuracy'])} in the paper, on its own images and by its own protocol"
                )
            beside = f" ({'; '.join(asides)})" if asides else ""
            yield f"{best.label} is best, right for {_told(best)} of the images {_PROTOCOL_WORDS[protocol]}{beside}."
            return


def _told(row: Row) -> str:
    return _share(row.figures["accuracy"].mean, row.figures["accuracy"].sd)


def _baseline(rows: Sequence[Row]) -> Iterator[str]:
    some = _of(rows, "grouped")
    without = [row for row in some if row.is_baseline]
    networks = [row for row in _networks(some) if row.beats_baseline]
    if not without or not networks:
        return
    share = _percent(max(_accuracy(row) for row in without))
    lost = [row.label for row in networks if row.beats_baseline == "no"]
    unclear = [row.label for row in networks if row.beats_baseline == "unclear"]
    if lost:
        yield f"{_list(lost)} {_do(lost)} not beat local contrast, a filter and no network, right for {share}."
    if unclear:
        yield (
            f"{_list(unclear)} {_be(unclear)} above local contrast, a filter and no network ({share}), but these folds "
            "cannot rule out chance."
        )
    if not lost and not unclear:
        yield f"every network beats local contrast, a filter and no network, right for {share}."


def _leak(leak: Sequence[Contrast]) -> Iterator[str]:
    gains = [each.gains["accuracy"] for each in leak if "accuracy" in each.gains]
    if means := [gain.mean for gain in gains if gain.mean is not None]:
        clear = sum(gain.low is not None and gain.low > 0 for gain in gains)
        yield (
            "the published protocol, whose folds share vessels and whose epoch is chosen on the scored fold, "
            f"{_adds(fmean(means))} accuracy{_over(len(means), clear)}."
        )


def _left_out(rows: Sequence[Row]) -> Iterator[str]:
    if not (networks := _networks(_of(rows, "left_out"))):
        return
    best = max(networks, key=_accuracy)
    worst = min(zip(best.folds, best.values["accuracy"], strict=True), key=lambda pair: pair[1] or 0.0)
    same = msgspec.structs.replace(best.cell, protocol="grouped")
    inside = [f", against {_percent(_accuracy(row))} in folds that have" for row in _networks(rows) if row.cell == same]
    yield (
        f"where training has never seen the source (lab, donor), {best.label} is right for {_percent(_accuracy(best))}"
        f"{''.join(inside)}; the worst is ‘{worst[0]}’ with {_percent(worst[1])}."
    )


def _clumps(clumps: Sequence[Contrast]) -> Iterator[str]:
    grouped = [each for each in clumps if each.cell.protocol == "grouped"] or list(clumps)
    gains = [each.gains["accuracy"] for each in grouped]
    if means := [gain.mean for gain in gains if gain.mean is not None]:
        clear = sum(gain.low is not None and gain.high is not None and gain.low * gain.high > 0 for gain in gains)
        yield f"Multi-stack: masking dark clumps out {_adds(fmean(means))} accuracy{_over(len(means), clear)}."


def _detection(rows: Sequence[Row]) -> Iterator[str]:
    found = [row for row in rows if row.figures["recall"].mean is not None]
    for protocol in dict.fromkeys(row.cell.protocol for row in found):
        some = _of(found, protocol)
        best = max(some, key=lambda row: row.figures["average_precision"].mean or 0.0)
        recall, wrong, area = (
            best.figures[name].mean for name in ("recall", "false_discovery_rate", "average_precision")
        )
        area_text = "" if area is None else f" (average precision {area:.3f})"
        yield (
            f"Abnormal cells, {_PROTOCOL_WORDS[protocol]}: {best.label} finds {_percent(recall)} of them, and "
            f"{_percent(wrong)} of its boxes are on none{area_text}."
        )


def _over(networks: int, clear: int) -> str:
    """Tell over how many networks a gain is the mean, and how many of them it is beyond chance for."""
    if networks == 1:
        return "" if clear else ", which these folds cannot tell from chance"
    return f", averaged over {networks} networks (beyond chance for {clear or 'none'})"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _share(mean: float | None, sd: float | None) -> str:
    if mean is None or sd is None:
        return _percent(mean)
    return f"{100 * mean:.1f} ± {100 * sd:.1f} %"


def _adds(gain: float) -> str:
    return f"adds {100 * max(gain, 0.0):.1f} points of" if gain > -0.0005 else f"takes {100 * -gain:.1f} points off the"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _be(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
