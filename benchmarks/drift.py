"""How often is a batch called different that is not, and how soon one that is?

python benchmarks/drift.py                       about six minutes on 2 free cores
python benchmarks/drift.py --worlds 40           a tenth of it
python benchmarks/drift.py --json RESULT.json

Batches of simulated cultures are judged against a lineage as the screening step does it, by image statistics and by
what a champion's network sees. A seeding run is four vessels of one donor, each with six days. The lineage has six
runs; every run has a donor of its own. Beside it stand two usual ways to look for drift, at the same stated rate:

    Kolmogorov-Smirnov    on each statistic, images taken to be independent, Bonferroni
    energy over images    the same distance as ours, images changing sides one by one

    no drift     a batch of one run; four vessels of as many runs; a run of which there are but the first two days
    slow drift   light, focus, contrast and noise move a little every month, twelve months long
    microscope   another one, from one month to the next

The delay is the number of batches up to the first that is called different, the first one that drifts being 1.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from components.bundle import KNOWN_IMAGE_FILE, MODEL_FILE, Bundle, KnownAnswer, file_digest, write_bundle
from components.culture import CLASS_NAMES, Modality
from components.datasets.importers import find_images
from components.datasets.manifest import ImageRecord
from components.datasets.simulation import Microscope, simulate
from components.datasets.versions import DataRepository
from components.evaluation.familiarity import descriptions
from components.evaluation.resampling import group_index
from components.events import observed
from components.novelty import INDIFFERENT
from components.screening.drift import judge_drift
from components.screening.drift.comparison import compare, within_whitening
from components.settings import DriftSettings, TrainingSettings
from components.storage import open_store

SIDE, MONTHS = 96, 12
RUNS, LINEAGE_RUNS = 200, 6
DRIFTING_RUNS = 12
USUAL = Microscope.for_modality(Modality.SINGLE_STACK)
# After a year of slow drift; and what another laboratory's stand may be.
WORN = replace(USUAL, brightness=0.39, contrast=0.82, blur=1.5, noise=0.024)
OTHER = replace(USUAL, brightness=0.55, contrast=0.75, blur=1.3, noise=0.026, unevenness=0.2)
SETTINGS = DriftSettings()
METHODS = ("ours", "statistics alone", "Kolmogorov-Smirnov", "energy over images")

Run = list[ImageRecord]


class World(NamedTuple):
    """Everything that batches are drawn from.

    Attributes:
        usual: Seeding runs under the usual microscope.
        months: For each month of slow drift, runs of that month.
        other: Runs under another microscope.
    """

    repository: DataRepository
    bundle: Path
    cache: Path
    usual: list[Run]
    months: list[list[Run]]
    other: list[Run]


def make_world(folder: Path) -> World:
    repository = DataRepository(open_store(str(folder / "store")))
    months = [_between(month / MONTHS) for month in range(1, MONTHS + 1)]
    seeds = iter(range(1, 10_000))
    usual = [_draw(repository, folder, next(seeds), USUAL) for _ in range(RUNS)]
    worn = [[_draw(repository, folder, next(seeds), each) for _ in range(DRIFTING_RUNS)] for each in months]
    other = [_draw(repository, folder, next(seeds), OTHER) for _ in range(DRIFTING_RUNS)]
    return World(repository, _make_bundle(folder / "bundle"), folder / "cache", usual, worn, other)


def _between(share: float) -> Microscope:
    moved = {
        name: getattr(USUAL, name) + share * (getattr(WORN, name) - getattr(USUAL, name))
        for name in ("brightness", "contrast", "blur", "noise")
    }
    return replace(USUAL, **moved)


def _draw(repository: DataRepository, folder: Path, seed: int, microscope: Microscope) -> Run:
    place = folder / "source" / str(seed)
    simulate(
        place,
        images=24,
        vessels=4,
        modality=Modality.SINGLE_STACK,
        seed=seed,
        size=(SIDE, SIDE),
        microscope=microscope,
        processes=1,
    )
    source = open_store(str(place))
    return list(repository.records(repository.snapshot(source, find_images(source), ref=str(seed), message="").version))


def _make_bundle(folder: Path) -> Path:
    from components.models.classifier import build_classifier
    from components.models.export import export_onnx
    from components.models.weights import find_weights, input_of

    folder.mkdir()
    settings = TrainingSettings(backbone="cover_net", image_size=SIDE)
    weights = find_weights(settings.backbone, settings.weights)
    export_onnx(build_classifier(settings.backbone, settings.dropout, weights, 0), SIDE, folder / MODEL_FILE)
    (folder / KNOWN_IMAGE_FILE).write_bytes(b"not asked here")
    bundle = Bundle(
        model_name="confluence-single-stack",
        modality=Modality.SINGLE_STACK,
        backbone="cover_net",
        classes=CLASS_NAMES,
        preprocessing=input_of(settings, weights),
        temperature=1.0,
        min_confidence=0.0,
        known=KnownAnswer(probabilities=(0.25,) * 4),
        data_version="d" * 64,
        split_id="5" * 64,
        code_version="benchmark",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        metrics={},
        files={name: file_digest(folder / name) for name in (MODEL_FILE, KNOWN_IMAGE_FILE)},
    )
    write_bundle(folder, bundle)
    return folder


def judge(world: World, lineage: Sequence[Run], batch: Run) -> dict[str, bool]:
    """Tell for each way whether it calls a batch different."""
    reference = [record for run in lineage for record in run]
    verdict = judge_drift(world.repository, reference, batch, world.bundle, SETTINGS, world.cache)
    by_statistics = verdict.tests[0].p
    assert by_statistics is not None
    # The baselines are given the same days, too.
    days = {record.day for record in batch}
    reference = [record for record in reference if record.day in days]
    points = descriptions(world.repository, [*batch, *reference], world.cache)
    return {
        "ours": verdict.drifted,
        "statistics alone": by_statistics <= SETTINGS.false_alarm,
        "Kolmogorov-Smirnov": _kolmogorov(points[: len(batch)], points[len(batch) :]),
        "energy over images": _over_images(points, [record.split_group for record in (*batch, *reference)], len(batch)),
    }


def _kolmogorov(batch: np.ndarray, reference: np.ndarray) -> bool:
    found = [stats.ks_2samp(mine, theirs).pvalue for mine, theirs in zip(batch.T, reference.T, strict=True)]
    return bool(min(found) <= SETTINGS.false_alarm / len(found))


def _over_images(points: np.ndarray, groups: list[str], count: int) -> bool:
    placed = points @ within_whitening(points, group_index(groups), INDIFFERENT)
    sides = np.arange(len(points)) < count
    nothing = [""] * len(points)
    found = compare(placed, np.arange(len(points)), nothing, sides, permutations=SETTINGS.permutations, seed=0)
    return found.p_groups <= SETTINGS.false_alarm


def without_drift(world: World, count: int, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    kinds = {"one run": _one_run, "vessels of four runs": _mixed, "one run, its first two days": _early}
    return {name: _rates(_judged(world, count, rng, make)) for name, make in kinds.items()}


def _judged(world: World, count: int, rng: np.random.Generator, make: Any) -> Iterator[dict[str, bool]]:
    for _ in range(count):
        order = rng.permutation(RUNS)
        lineage = [world.usual[number] for number in order[:LINEAGE_RUNS]]
        yield judge(world, lineage, make([world.usual[number] for number in order[LINEAGE_RUNS:]]))


def _one_run(runs: list[Run]) -> Run:
    return runs[0]


def _mixed(runs: list[Run]) -> Run:
    return [record for run in runs[:4] for record in run if record.vessel == run[0].vessel]


def _early(runs: list[Run]) -> Run:
    return [record for record in runs[0] if record.day in (1, 2)]


def _rates(answers: Iterator[dict[str, bool]]) -> dict[str, Any]:
    table = np.array([[each[method] for method in METHODS] for each in answers])
    count = len(table)
    return {
        method: {
            "share": float(column.mean()),
            "interval": [float(each) for each in stats.binomtest(int(column.sum()), count).proportion_ci()],
            "n": count,
        }
        for method, column in zip(METHODS, table.T, strict=True)
    }


def with_drift(world: World, count: int, rng: np.random.Generator) -> dict[str, Any]:
    """Follow lineages through a year of drift, and others past a change of microscope."""
    years = [_year(world, rng) for _ in range(count)]
    power = [
        {method: float(np.mean([year[month][method] for year in years])) for method in METHODS}
        for month in range(MONTHS)
    ]
    return {
        "slow drift, called different by month": power,
        "slow drift, delay": {method: _delays([_first(year, method) for year in years]) for method in METHODS},
        "microscope": _rates(_judged_elsewhere(world, count, rng)),
    }


def _year(world: World, rng: np.random.Generator) -> list[dict[str, bool]]:
    lineage = [world.usual[number] for number in rng.permutation(RUNS)[:LINEAGE_RUNS]]
    return [judge(world, lineage, world.months[month][rng.integers(DRIFTING_RUNS)]) for month in range(MONTHS)]


def _judged_elsewhere(world: World, count: int, rng: np.random.Generator) -> Iterator[dict[str, bool]]:
    for _ in range(count):
        lineage = [world.usual[number] for number in rng.permutation(RUNS)[:LINEAGE_RUNS]]
        yield judge(world, lineage, world.other[rng.integers(DRIFTING_RUNS)])


def _first(year: list[dict[str, bool]], method: str) -> int:
    return next((month for month, answers in enumerate(year, start=1) if answers[method]), MONTHS + 1)


def _delays(first: list[int]) -> dict[str, float]:
    return {
        "median": float(np.median(first)),
        "nine in ten": float(np.quantile(first, 0.9, method="higher")),
        "never": float(np.mean(np.array(first) > MONTHS)),
    }


def show(result: dict[str, Any]) -> None:
    print(f"{'called different, %':32}" + "".join(f"{method:>22}" for method in METHODS))
    rows = {f"no drift: {name}": rates for name, rates in result["no drift"].items()}
    rows["another microscope"] = result["drift"]["microscope"]
    for name, rates in rows.items():
        cells = [f"{100 * rates[method]['share']:.1f} ({_interval(rates[method])})" for method in METHODS]
        print(f"{name:32}" + "".join(f"{cell:>22}" for cell in cells))
    for month, powers in enumerate(result["drift"]["slow drift, called different by month"], start=1):
        print(f"{f'slow drift, month {month}':32}" + "".join(f"{100 * powers[method]:>22.0f}" for method in METHODS))
    delays = result["drift"]["slow drift, delay"]
    print(f"{'months until called (9 in 10)':32}" + "".join(f"{_delay(delays[method]):>22}" for method in METHODS))
    print(f"{result['worlds']} worlds of each kind, {result['seconds']:.0f} s")


def _interval(rate: dict[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{100 * low:.1f}-{100 * high:.1f}"


def _delay(each: dict[str, float]) -> str:
    return f"{each['median']:g} ({each['nine in ten']:g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=400, help="batches of each kind without drift")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as folder, observed(lambda _: None):
        world = make_world(Path(folder))
        result: dict[str, Any] = {"worlds": options.worlds, "settings": SETTINGS.model_dump()}
        result["no drift"] = without_drift(world, options.worlds, rng)
        result["drift"] = with_drift(world, max(10, options.worlds // 8), rng)
    result["seconds"] = time.perf_counter() - started
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
