"""Putting the evidence of a model version together."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np

from components.culture import CLASSES
from components.datasets.manifest import ImageRecord
from components.errors import DataError
from components.evaluation import calibration as calibrating
from components.evaluation import curves
from components.evaluation.baseline import Baseline
from components.evaluation.calibration import Calibration
from components.evaluation.evidence import Answer, Data, Evidence, Model, Picture, Search, Slice
from components.evaluation.familiarity import Familiarity
from components.evaluation.inputs import Training
from components.evaluation.metrics import confusion, measure
from components.evaluation.resampling import Floats, Integers
from components.evaluation.scored import Scored
from components.imaging import probabilities
from components.provenance import code_version, environment

# A field with more values than this (a lot number, say) is shown by its commonest ones.
MOST_VALUES = 12
_SLICE_RESAMPLES = 500

Parts = Mapping[str, Sequence[ImageRecord]]


def assemble(
    test: Scored,
    *,
    model: Model,
    data: Data,
    calibration: Calibration,
    training: Training,
    search: Search | None,
    sheet: tuple[Picture, ...],
    baselines: tuple[Baseline, ...] = (),
    familiarity: Familiarity | None = None,
) -> Evidence:
    """Put everything that the report shows together, computing what follows from the test answers."""
    calibrated = test.probabilities
    return Evidence(
        created=datetime.now(UTC),
        model=model,
        data=data,
        measured=test.measured(),
        blind=_blind(test, data.counts["train"]),
        confusion=tuple(tuple(row) for row in confusion(test.truth, test.predicted).tolist()),
        slices=slices(test),
        roc=tuple(curves.roc_curves(test.truth, calibrated)),
        precision_recall=tuple(curves.precision_recall_curves(test.truth, calibrated)),
        calibration=calibration,
        test_ece=calibrating.calibration_error(calibrated, test.truth),
        test_ece_uncalibrated=calibrating.calibration_error(probabilities(test.logits), test.truth),
        bins=tuple(calibrating.reliability(calibrated, test.truth)),
        history=training.history,
        best_epoch=training.best_epoch,
        search=search,
        answers=_answers(test, calibrated),
        sheet=sheet,
        code_version=code_version(),
        environment=environment(),
        training_environment=training.environment,
        baselines=baselines,
        familiarity=familiarity,
    )


def describe_data(
    parts: Parts,
    *,
    version: str,
    lineage: str,
    split_id: str,
    majority_class: int,
    quarantined: Mapping[str, float] | None,
) -> Data:
    """Count what a split holds; ``quarantined`` is by reason, and may hold whole floats, as kfp passes them."""
    return Data(
        version=version,
        lineage=lineage,
        split_id=split_id,
        counts={part: _class_counts(records) for part, records in parts.items()},
        groups={part: len({record.split_group for record in records}) for part, records in parts.items()},
        majority_class=majority_class,
        quarantined=None if quarantined is None else {why: int(count) for why, count in quarantined.items()},
    )


def check_parts_are_apart(parts: Parts) -> None:
    """Make sure that the test part is new to the model.

    Raises:
        DataError: if a group, or an image of the same bytes, is also in another part.
    """
    for other in ("train", "validation"):
        for what, key in (("group", "split_group"), ("image content", "sha256")):
            shared = {getattr(record, key) for record in parts["test"]} & {
                getattr(record, key) for record in parts[other]
            }
            if shared:
                raise DataError(
                    f"{what} '{min(shared)}' is in the test part and in the {other} part ({len(shared)} such), which "
                    "would flatter the model; make a new split"
                )


def slices(test: Scored) -> tuple[Slice, ...]:
    """Measure the test images by each value of each field that has more than one."""
    return tuple(_slice(test, field, value, rows) for field, value, rows in sliced(test.slices))


def sliced(slices: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, Integers]]:
    """Give the rows of the images that share a value, for each field that has more than one value."""
    for field, values in slices.items():
        counts = Counter(values)
        if len(counts) < 2:
            continue
        chosen = [value for value, _ in counts.most_common(MOST_VALUES)]
        for value in sorted(chosen, key=_natural):
            yield field, value, np.flatnonzero(np.array(values) == value)


def _natural(value: str) -> tuple[bool, float, str]:
    return (False, float(value), "") if value.isdecimal() else (True, 0.0, value)


def _slice(test: Scored, field: str, value: str, rows: Integers) -> Slice:
    measured = measure(
        test.truth[rows],
        test.probabilities[rows],
        [test.groups[row] for row in rows],
        majority_class=test.majority_class,
        resamples=_SLICE_RESAMPLES,
    )
    return Slice(
        field=field,
        value=value,
        n=measured.n,
        groups=measured.groups,
        accuracy=measured.figures["accuracy"],
        within_one_class=measured.figures["within_one_class"],
    )


def _blind(test: Scored, counts: Mapping[int, int]) -> dict[str, float | None]:
    """Measure a model that has never seen an image: it knows only how common each class is in training."""
    shares = np.array([counts.get(int(each), 0) for each in CLASSES], float)
    constant = np.tile(shares / shares.sum(), (len(test), 1))
    measured = measure(test.truth, constant, test.groups, majority_class=test.majority_class, resamples=1)
    return {name: figure.value for name, figure in measured.figures.items()}


def _answers(test: Scored, calibrated: Floats) -> tuple[Answer, ...]:
    loss = calibrating.losses(test.logits, test.truth, test.temperature).round(6).tolist()
    shown = calibrated.round(6).tolist()
    truth, predicted = test.truth.tolist(), test.predicted.tolist()
    return tuple(
        Answer(
            path=test.paths[row],
            sha256=test.sha256s[row],
            group=test.groups[row],
            truth=truth[row],
            predicted=predicted[row],
            probabilities=tuple(shown[row]),
            loss=loss[row],
        )
        for row in range(len(test))
    )


def _class_counts(records: Sequence[ImageRecord]) -> dict[int, int]:
    counts = Counter(record.confluence_class for record in records)
    return {int(each): counts[each] for each in CLASSES}
