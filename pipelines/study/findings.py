"""What a study found, in sentences; each says no more than its interval allows."""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from components.culture import Task
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
    """Say what the tables show, the most important first."""
    told = [*_best(study.table_1), *_baseline(study.table_1), *_leak(study.leak, study.table_1)]
    told += [*_left_out(study.table_1), *_clumps(study.clumps), *_detection(study.table_2)]
    return told + [f"No result: {name}: {why}" for name, why in study.failures.items()] + list(study.notes)


def _blocks(rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    keys = dict.fromkeys((row.cell.modality, row.cell.protocol) for row in rows)
    for modality, protocol in keys:
        some = [row for row in rows if (row.cell.modality, row.cell.protocol) == (modality, protocol)]
        yield modality, protocol, some


def _networks(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not row.is_baseline and row.figures["accuracy"].mean is not None]


def _accuracy(row: Row) -> float:
    return row.figures["accuracy"].mean or 0.0


def _best(rows: Sequence[Row]) -> Iterator[str]:
    for modality, protocol, some in _blocks(rows):
        if networks := _networks(some):
            best = max(networks, key=_accuracy)
            found = best.figures["accuracy"]
            sentence = (
                f"{MODALITY_NAMES[modality].capitalize()}, {_PROTOCOL_WORDS[protocol]}: {best.label} is best, right "
                f"for {_share(found.mean, found.sd)} of the images"
            )
            if protocol == "published" and "accuracy" in best.paper:
                theirs = best.paper["accuracy"]
                sentence += f"; on the authors’ images it was {_share(*theirs)}"
            yield sentence + "."


def _baseline(rows: Sequence[Row]) -> Iterator[str]:
    for modality, protocol, some in _blocks(rows):
        without = [row for row in some if row.is_baseline]
        networks = [row for row in _networks(some) if row.beats_baseline]
        if not without or not networks or protocol == "published":
            continue
        share = _percent(max(_accuracy(row) for row in without))
        lost = [row.label for row in networks if row.beats_baseline == "no"]
        unclear = [row.label for row in networks if row.beats_baseline == "unclear"]
        where = f"{MODALITY_NAMES[modality].capitalize()}, {_PROTOCOL_WORDS[protocol]}: "
        if lost:
            yield f"{where}{_list(lost)} {_do(lost)} not beat local contrast without any training, right for {share}."
        if unclear:
            yield (
                f"{where}{_list(unclear)} {_be(unclear)} above local contrast without any training ({share}), but "
                "these folds cannot rule out chance."
            )
        if not lost and not unclear:
            yield f"{where}every network beats local contrast without any training, which is right for {share}."


def _leak(leak: Sequence[Contrast], rows: Sequence[Row]) -> Iterator[str]:
    for modality in dict.fromkeys(each.cell.modality for each in leak):
        gains = [
            gain for each in leak if each.cell.modality == modality and (gain := each.gains.get("accuracy")) is not None
        ]
        means = [gain.mean for gain in gains if gain.mean is not None]
        if means:
            clear = sum(gain.low is not None and gain.low > 0 for gain in gains)
            yield (
                f"{MODALITY_NAMES[modality].capitalize()}: the published protocol, whose folds share vessels and whose "
                f"epoch is chosen on the scored fold, {_adds(fmean(means))} accuracy, averaged over "
                f"{len(means)} network{'s' if len(means) > 1 else ''} (beyond chance for {clear})."
            )


def _left_out(rows: Sequence[Row]) -> Iterator[str]:
    grouped = {
        (str(row.cell.modality), row.label): _accuracy(row) for row in _networks(rows) if row.cell.protocol == "grouped"
    }
    for modality, protocol, some in _blocks(rows):
        networks = _networks(some)
        if protocol != "left_out" or not networks:
            continue
        best = max(networks, key=_accuracy)
        worst = min(zip(best.folds, best.values["accuracy"], strict=True), key=lambda pair: pair[1] or 0.0)
        inside = grouped.get((modality, best.label))
        beside = "" if inside is None else f", against {_percent(inside)} in folds that have seen them"
        yield (
            f"{MODALITY_NAMES[modality].capitalize()}: on images of a source that it never saw, {best.label} is right "
            f"for {_percent(_accuracy(best))}{beside}; the worst is ‘{worst[0]}’ with {_percent(worst[1])}."
        )


def _clumps(clumps: Sequence[Contrast]) -> Iterator[str]:
    for each in clumps:
        gain = each.gains["accuracy"]
        if gain.mean is None:
            continue
        sure = gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0)
        yield (
            f"Masking dark clumps out {_adds(gain.mean)} accuracy for {each.label}"
            f"{'' if sure else ', which these folds cannot tell from chance'}."
        )


def _detection(rows: Sequence[Row]) -> Iterator[str]:
    found = [row for row in rows if row.cell.task == Task.ABNORMAL_CELLS and row.figures["recall"].mean is not None]
    for protocol in dict.fromkeys(row.cell.protocol for row in found):
        best = max(
            (row for row in found if row.cell.protocol == protocol),
            key=lambda row: row.figures["average_precision"].mean or 0.0,
        )
        recall, wrong, area = (
            best.figures[name].mean for name in ("recall", "false_discovery_rate", "average_precision")
        )
        area_text = "" if area is None else f" (average precision {area:.3f})"
        yield (
            f"Abnormal cells, {_PROTOCOL_WORDS[protocol]}: {best.label} finds {_percent(recall)} of them, and "
            f"{_percent(wrong)} of its boxes are on none{area_text}."
        )


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _share(mean: float | None, sd: float | None) -> str:
    if mean is None or sd is None:
        return _percent(mean)
    return f"{100 * mean:.1f} ± {100 * sd:.1f} %"


def _adds(gain: float) -> str:
    return f"adds {100 * gain:.1f} points of" if gain >= 0 else f"takes {100 * -gain:.1f} points off the"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _do(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _be(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
