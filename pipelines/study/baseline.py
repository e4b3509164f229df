"""The rows of the baselines: local contrast alone, scored in the very folds of the networks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.culture import Task
from components.datasets.folds import Fold
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.baseline import FIXED, band_probabilities, coverage, fit_threshold
from components.evaluation.calibration import calibration_error
from components.evaluation.metrics import measure
from components.evaluation.resampling import Floats
from components.evaluation.scoring import labels
from pipelines.study.plan import Plan
from pipelines.study.results import Cell
from pipelines.study.tables import BASELINES, Row, make_row


def rows(repository: DataRepository, plan: Plan, cache: Path) -> list[Row]:
    """Measure both baselines in every fold of the classifiers.

    The one has its threshold fixed beforehand, the other takes it from the training part of each fold.
    """
    made = []
    for (part, protocol), folds in plan.folds.items():
        task, modality = part
        if task != Task.CONFLUENCE:
            continue
        records = plan.records[part]
        shares = coverage(repository, records, cache)
        for name in BASELINES:
            cell = Cell(task=task, modality=modality, backbone=name, protocol=protocol)
            fitted = name.endswith("_fitted")
            made.append(make_row(cell, {fold.name: _figures(records, shares, fold, fitted=fitted) for fold in folds}))
    return made


def _figures(records: Sequence[ImageRecord], shares: Floats, fold: Fold, *, fitted: bool) -> dict[str, float | None]:
    truth = labels(records)
    train, test = np.array(fold.train), np.array(fold.test)
    index = fit_threshold(shares[train], truth[train]) if fitted else FIXED
    scores = band_probabilities(shares[test, index])
    groups = [records[row].split_group for row in fold.test]
    majority = int(np.bincount(truth[train]).argmax())
    measured = measure(truth[test], scores, groups, majority_class=majority, resamples=1)
    figures = {name: figure.value for name, figure in measured.figures.items()}
    return figures | {"ece_before": calibration_error(scores, truth[test])}
