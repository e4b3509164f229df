"""Drift on simulated cultures: whether a batch looks different, in what, and what limits the answer."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from components.bundle import MODEL_FILE
from components.culture import Modality
from components.datasets.importers import find_images
from components.datasets.manifest import ImageRecord
from components.datasets.simulation import Microscope, simulate
from components.datasets.versions import DataRepository
from components.errors import IntegrityError
from components.screening.drift import judge_drift, write_page
from components.screening.drift.comparison import compare, within_whitening
from components.screening.drift.features import features, penultimate
from components.settings import DriftSettings
from components.storage import open_store
from tests.conftest import write_tiny_bundle, write_tiny_detector

SETTINGS = DriftSettings(permutations=400)
USUAL = Microscope.for_modality(Modality.SINGLE_STACK)
OTHER = replace(USUAL, brightness=0.56, contrast=0.7, noise=0.03)
Take = Callable[..., list[ImageRecord]]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> DataRepository:
    return DataRepository(open_store(str(tmp_path_factory.mktemp("store"))))


@pytest.fixture(scope="module")
def take(repository: DataRepository, tmp_path_factory: pytest.TempPathFactory) -> Take:
    """Takes images of new vessels, six days each, by a microscope."""

    def images(vessels: int, seed: int, microscope: Microscope = USUAL) -> list[ImageRecord]:
        folder = tmp_path_factory.mktemp("source")
        simulate(
            folder,
            images=6 * vessels,
            vessels=vessels,
            modality=Modality.SINGLE_STACK,
            seed=seed,
            size=(64, 64),
            microscope=microscope,
            processes=1,
        )
        source = open_store(str(folder))
        version = repository.snapshot(source, find_images(source), ref=f"s{seed}.{folder.name}", message="").version
        return list(repository.records(version))

    return images


@pytest.fixture(scope="module")
def reference(take: Take) -> list[ImageRecord]:
    return take(24, seed=1)


@pytest.fixture(scope="module")
def foreign(take: Take) -> list[ImageRecord]:
    return take(4, seed=1000, microscope=OTHER)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_another_microscope_is_drift_and_is_told_in_words(
    repository: DataRepository, reference: list[ImageRecord], foreign: list[ImageRecord], cache: Path
) -> None:
    verdict = judge_drift(repository, reference, foreign, None, SETTINGS, cache)
    (test,) = verdict.tests
    assert verdict.drifted
    assert test.drifted
    assert (test.kind, test.modality, test.source) == ("statistics", "single_stack", "simulated")
    assert (test.n, test.groups, test.reference_n, test.reference_groups) == (24, 4, 144, 24)
    assert test.p is not None
    assert test.p <= test.bound == verdict.alarm_rate
    assert test.effect is not None
    assert 0.1 < test.effect < 1
    assert "brighter" in {shift.words for shift in test.shifts}
    assert set(verdict.most_foreign) <= {record.path for record in foreign}


def test_new_vessels_under_the_same_microscope_are_none(
    repository: DataRepository, take: Take, reference: list[ImageRecord], cache: Path
) -> None:
    verdict = judge_drift(repository, reference, take(4, seed=2), None, SETTINGS, cache)
    assert not verdict.drifted
    assert verdict.tests[0].effect is not None
    assert verdict.tests[0].effect < 0.1


def test_a_batch_of_early_days_is_held_against_early_days(
    repository: DataRepository, take: Take, reference: list[ImageRecord], cache: Path
) -> None:
    early = [record for record in take(6, seed=3) if record.day in (1, 2)]
    verdict = judge_drift(repository, reference, early, None, SETTINGS, cache)
    assert verdict.tests[0].reference_n == sum(record.day in (1, 2) for record in reference)
    assert not verdict.drifted


def test_a_new_source_is_told_and_is_no_drift(
    repository: DataRepository, reference: list[ImageRecord], foreign: list[ImageRecord], cache: Path
) -> None:
    elsewhere = [msgspec.structs.replace(record, source="elsewhere") for record in foreign]
    verdict = judge_drift(repository, reference, elsewhere, None, SETTINGS, cache)
    (test,) = verdict.tests
    assert (test.source, test.p, test.drifted, verdict.drifted) == ("elsewhere", None, False, False)
    assert test.note.startswith("new")


def test_a_single_vessel_cannot_tell_and_says_so(
    repository: DataRepository, reference: list[ImageRecord], foreign: list[ImageRecord], cache: Path
) -> None:
    one = [record for record in foreign if record.vessel == foreign[0].vessel]
    few = [record for record in reference if record.vessel in {each.vessel for each in islice(reference, 60)}]
    (test,) = judge_drift(repository, few, one, None, SETTINGS, cache).tests
    assert not test.drifted
    assert test.note.startswith("too few groups")


def test_what_the_champion_sees_is_compared_too(
    repository: DataRepository,
    reference: list[ImageRecord],
    foreign: list[ImageRecord],
    cache: Path,
    tmp_path: Path,
) -> None:
    write_tiny_bundle(tmp_path)
    verdict = judge_drift(repository, reference, foreign, tmp_path, SETTINGS, cache)
    assert [test.kind for test in verdict.tests] == ["statistics", "features"]
    assert all(test.drifted and test.bound == SETTINGS.false_alarm / 2 for test in verdict.tests)


def test_features_are_what_the_last_layer_reads(
    repository: DataRepository, foreign: list[ImageRecord], cache: Path, tmp_path: Path
) -> None:
    write_tiny_bundle(tmp_path)
    assert penultimate(onnx.load(tmp_path / MODEL_FILE).graph) == "colours"
    seen = features(repository, foreign, tmp_path, cache)
    assert seen is not None
    assert seen.shape == (len(foreign), 3)
    assert np.array_equal(seen, features(repository, foreign, tmp_path, cache))


def test_a_network_without_weights_leaves_its_features_untested(
    repository: DataRepository, reference: list[ImageRecord], foreign: list[ImageRecord], cache: Path, tmp_path: Path
) -> None:
    write_tiny_detector(tmp_path)
    verdict = judge_drift(repository, reference, foreign, tmp_path, SETTINGS, cache)
    assert [test.p is None for test in verdict.tests] == [False, True]
    assert "no layer" in verdict.tests[1].note


def test_an_altered_bundle_is_refused(
    repository: DataRepository, reference: list[ImageRecord], foreign: list[ImageRecord], cache: Path, tmp_path: Path
) -> None:
    write_tiny_bundle(tmp_path)
    (tmp_path / MODEL_FILE).write_bytes(b"other")
    with pytest.raises(IntegrityError, match=MODEL_FILE):
        judge_drift(repository, reference, foreign, tmp_path, SETTINGS, cache)


def test_the_same_batch_has_the_same_verdict_in_any_order(
    repository: DataRepository, reference: list[ImageRecord], foreign: list[ImageRecord], cache: Path
) -> None:
    first = judge_drift(repository, reference, foreign, None, SETTINGS, cache)
    second = judge_drift(repository, reference[::-1], foreign[::-1], None, SETTINGS, cache)
    assert first.tests[0].p == pytest.approx(second.tests[0].p)
    assert first.most_foreign == second.most_foreign


def test_the_page_shows_the_verdict_and_the_pictures(
    repository: DataRepository, reference: list[ImageRecord], foreign: list[ImageRecord], cache: Path, tmp_path: Path
) -> None:
    verdict = judge_drift(repository, reference, foreign, None, SETTINGS, cache)
    text = write_page(verdict, repository, reference, foreign, "week <1>", tmp_path).read_text("utf-8")
    assert text.count("<img") == len(verdict.most_foreign) + len(verdict.most_usual)
    assert "week &lt;1&gt;" in text
    assert "looks different" in text
    assert json.loads((tmp_path / "drift.json").read_bytes())["drifted"] is True


def test_runs_that_differ_among_themselves_make_a_batch_of_one_run_no_drift() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 3, (9, 2))
    centres = centres[np.argsort(-np.linalg.norm(centres, axis=1))]
    points = np.concatenate([rng.normal(centre, 1, (12, 2)) for centre in centres])
    groups, runs = np.arange(108) // 3, [f"run {number // 4}" for number in range(36)]
    in_batch = np.arange(36) < 4
    result = compare(points, groups, runs, in_batch, permutations=400, seed=0)
    assert result.p_groups < 0.05
    assert result.p_runs is not None
    assert result.p == result.p_runs > 0.05


def test_with_many_runs_on_either_side_they_change_sides_themselves() -> None:
    rng = np.random.default_rng(1)
    centres = np.repeat(rng.normal(0, 3, (10, 2)), 4, axis=0)
    groups, runs = np.arange(120) // 3, [f"run {number // 4}" for number in range(40)]
    in_batch = np.arange(40) < 16
    alike = compare(centres[groups] + rng.normal(size=(120, 2)), groups, runs, in_batch, permutations=400, seed=0)
    centres[:16] += 12
    other = compare(centres[groups] + rng.normal(size=(120, 2)), groups, runs, in_batch, permutations=400, seed=0)
    assert alike.p_runs is not None
    assert other.p_runs is not None
    assert alike.p_runs > 0.05
    # Of the 210 ways to choose 4 of 10 runs, the actual one is the most extreme.
    assert other.p_runs == pytest.approx(1 / 210)


def test_the_p_of_like_sets_is_uniform() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        points = np.repeat(rng.normal(size=(20, 3)), 4, axis=0) + rng.normal(size=(80, 3))
        groups = np.arange(80) // 4
        placed = points @ within_whitening(points, groups, 0.01 * np.eye(3))
        runs = [""] * 20
        found.append(compare(placed, groups, runs, np.arange(20) < 5, permutations=200, seed=0).p)
    shares = [np.mean(np.array(found) <= level) for level in (0.05, 0.25, 0.5)]
    assert shares == pytest.approx([0.05, 0.25, 0.5], abs=0.08)
