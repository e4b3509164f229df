"""Studies made by hand, so that what their tables must say is known."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from components.culture import ConfluenceClass, Modality, Task
from components.datasets.manifest import Box, ImageRecord
from components.settings import load_settings
from pipelines.study.options import StudyOptions
from pipelines.study.results import Answers, Cell, FoldResult
from pipelines.study.run import Study
from pipelines.study.tables import BASELINES, METRICS, contrasts, judge, make_row


def cell(backbone: str = "resnet50", protocol: str = "grouped", **changes: Any) -> Cell:
    fields = {"task": Task.CONFLUENCE, "modality": Modality.SINGLE_STACK, "backbone": backbone, "protocol": protocol}
    return Cell(**fields | changes)


def figures(task: Task = Task.CONFLUENCE, **known: float | None) -> dict[str, float | None]:
    return {metric.name: 0.5 for metric in METRICS[task]} | known


def result(of: Cell, fold: str, seed: int = 0, **known: float | None) -> FoldResult:
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 5, 20)
    logits = 2 * np.eye(4)[truth - 1] + rng.normal(size=(20, 4))
    figure = "validation_accuracy" if of.task == Task.CONFLUENCE else "validation_average_precision"
    history = tuple(
        {"epoch": float(n), "train_loss": 2 / n, "validation_loss": 1 / n, figure: 0.5, "seconds": 1.0}
        for n in (1, 2, 3)
    )
    answers = Answers(
        paths=tuple(f"{fold}-{row}.png" for row in range(20)),
        sha256s=tuple(f"{row:064x}" for row in range(20)),
        groups=tuple(f"vessel-{row % 5}" for row in range(20)),
        truth=tuple(truth.tolist()),
        logits=tuple(map(tuple, logits.tolist())),
        temperature=1.2,
    )
    return FoldResult(
        key="a" * 64,
        cell=of,
        fold=fold,
        seed=seed,
        learning_rate=1e-3,
        trials=5,
        weights="none",
        images={"train": 60, "validation": 20, "test": 20},
        groups={"train": 12, "validation": 4, "test": 4},
        history=history,
        best_epoch=3,
        state_sha256="b" * 64,
        figures=figures(of.task, **known),
        answers=answers if of.task == Task.CONFLUENCE else None,
        seconds=3.0,
        device="cpu",
    )


def study(accuracies: dict[Cell, list[float | None]], **changes: Any) -> Study:
    """A study whose folds have these accuracies (of detectors: recalls); None for a fold that failed."""
    rows, results = [], []
    for of, values in accuracies.items():
        name = "accuracy" if of.task == Task.CONFLUENCE else "recall"
        made = {
            str(n): result(of, str(n), n, **{name: value}) for n, value in enumerate(values, 1) if value is not None
        }
        rows.append(
            make_row(of, {str(n): made[str(n)].figures if str(n) in made else None for n in range(1, len(values) + 1)})
        )
        results += [] if of.backbone in BASELINES else made.values()
    judged = judge(rows)
    networks = [row for row in judged if not row.is_baseline]
    settings = load_settings()
    fields = {
        "out": "/nowhere",
        "versions": ("d" * 64,),
        "quarantined": {"too_small": 2},
        "images": {"confluence, single_stack": {"images": 100, "groups": 20, "class 1": 25}},
        "settings": {
            "training": settings.training.model_dump(mode="json"),
            "search": settings.search.model_dump(mode="json"),
            "folds": 5,
            "leave_out": "source",
        },
        "table_1": tuple(row for row in judged if row.cell.task == Task.CONFLUENCE),
        "table_2": tuple(row for row in judged if row.cell.task == Task.ABNORMAL_CELLS),
        "leak": tuple(contrasts(networks, "protocol", "published", "grouped", paired=False)),
        "clumps": tuple(contrasts(networks, "clumps", "masked", "kept", paired=True)),
        "results": tuple(results),
        "failures": {},
        "notes": (),
        "made": len(results),
        "found": 0,
        "seconds": 12.0,
        "code_version": "0.1.0",
    }
    return Study(**fields | changes)


def image(path: str, group: str, label: int | None, **fields: Any) -> ImageRecord:
    sha256 = hashlib.sha256(path.encode()).hexdigest()
    known = {"modality": Modality.SINGLE_STACK, "group": group} | fields
    return ImageRecord(
        path=path, sha256=sha256, size=1, confluence_class=None if label is None else ConfluenceClass(label), **known
    )


def vessels(count: int, **fields: Any) -> list[ImageRecord]:
    """Each vessel with an image of each class; every second one shows an abnormal cell."""
    box = Box(x1=1, y1=1, x2=9, y2=9, label="Flatten")
    return [
        image(
            f"{fields.get('modality', '')}v{n:02}-{label}",
            f"v{n:02}",
            label,
            boxes=(box,) if label % 2 else (),
            **fields,
        )
        for n in range(count)
        for label in (1, 2, 3, 4)
    ]


def options(tmp_path: Any, **changes: Any) -> StudyOptions:
    overrides = {"training": {"weights": "none", "image_size": 64}}
    fields = {
        "sources": ("photos",),
        "tasks": (Task.CONFLUENCE,),
        "backbones": ("shufflenet_v2",),
        "modalities": None,
        "protocols": ("grouped",),
        "leave_out": None,
        "equalisations": ("none",),
        "clumps": ("kept",),
        "folds": 5,
        "out": tmp_path / "out",
        "settings": load_settings(home=tmp_path / "home", **overrides),
        "detection": load_settings(home=tmp_path / "home", task=Task.ABNORMAL_CELLS, **overrides),
    }
    return StudyOptions(**fields | changes)


@pytest.fixture
def make_cell() -> Callable[..., Cell]:
    return cell


@pytest.fixture
def make_result() -> Callable[..., FoldResult]:
    return result


@pytest.fixture
def make_study() -> Callable[..., Study]:
    return study


@pytest.fixture
def make_vessels() -> Callable[..., list[ImageRecord]]:
    return vessels


@pytest.fixture
def make_image() -> Callable[..., ImageRecord]:
    return image


@pytest.fixture
def make_options(tmp_path: Any) -> Callable[..., StudyOptions]:
    return lambda **changes: options(tmp_path, **changes)
