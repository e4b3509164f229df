"""Promotion against challengers that are not what they seem; see also ``tests/components/evaluation``."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.datasets.splits import make_split
from components.datasets.versions import DataRepository
from components.errors import DataError, InputError, IntegrityError, RegistryError
from components.registry.promotion import Exam, promote
from components.registry.versions import Alias, ModelVersion, Registry
from components.settings import GateSettings, SplitSettings
from components.storage import open_store

BundleOf = Callable[..., Path]

PERFECT = (1, 1, 2, 2, 3, 3, 4, 4)
GOOD = (1, 1, 2, 2, 3, 3, 4, 3)  # an eighth wrong
SHUFFLED = (3, 1, 4, 2, 1, 2, 4, 3)
GATE = GateSettings()


@pytest.fixture
def exam(data: Any, tmp_path: Path) -> Exam:
    return Exam(str(data.store), data.first_split, tmp_path / "home")


@pytest.fixture
def registry(sqlite_uri: str, tmp_path: Path) -> Registry:
    return Registry(sqlite_uri, tmp_path / "home")


@pytest.fixture
def champion(registry: Registry, bundle_of: BundleOf, exam: Exam) -> ModelVersion:
    version = registry.register(bundle_of(GOOD)).version
    assert promote(registry, version.name, version.version, exam, GATE).passed
    return version


def holder(registry: Registry, name: str) -> str | None:
    now = registry.champion(name)
    return now.version if now else None


def refused(done: Any) -> set[str]:
    return {rule.name for rule in done.rules if not rule.passed}


def test_the_identical_bundle_is_the_champion_itself(
    registry: Registry, champion: ModelVersion, bundle_of: BundleOf, exam: Exam
):
    again = registry.register(bundle_of(GOOD))
    assert (again.created, again.version.version) == (False, champion.version)
    assert promote(registry, champion.name, again.version.version, exam, GATE).reasons == (
        "version 1 is the champion already",
    )


def test_the_same_answers_in_other_bytes_pass(
    registry: Registry, champion: ModelVersion, bundle_of: BundleOf, exam: Exam
):
    registry.register(bundle_of(GOOD, note="retrained"))
    assert promote(registry, champion.name, "2", exam, GATE).champion == "2"


def test_swapped_with_the_champion_the_better_one_stays(
    registry: Registry, champion: ModelVersion, bundle_of: BundleOf, exam: Exam
):
    registry.register(bundle_of(PERFECT))
    assert promote(registry, champion.name, "2", exam, GATE).passed
    back = promote(registry, champion.name, "1", exam, GATE)
    assert not back.passed
    assert {"not worse than the champion", "not behind on the test images"} <= refused(back)
    assert holder(registry, champion.name) == "2"


def test_the_champions_network_in_the_challengers_bundle_is_found_out(
    registry: Registry, champion: ModelVersion, bundle_of: BundleOf, exam: Exam
):
    version = registry.register(bundle_of(SHUFFLED)).version
    shutil.copyfile(bundle_of(GOOD) / "model.onnx", files_of(version) / "model.onnx")
    with pytest.raises(IntegrityError, match=r"model\.onnx has digest"):
        promote(registry, champion.name, version.version, exam, GATE)
    assert holder(registry, champion.name) == champion.version


def files_of(version: ModelVersion) -> Path:
    return Path(version.source.removeprefix("file://"))


def test_shuffled_labels_are_refused_with_and_without_a_champion(
    registry: Registry, bundle_of: BundleOf, model_name: str, exam: Exam
):
    registry.register(bundle_of(SHUFFLED))
    assert "accuracy" in refused(promote(registry, model_name, "1", exam, GATE))
    assert holder(registry, model_name) is None
    registry.register(bundle_of(GOOD))
    assert promote(registry, model_name, "2", exam, GATE).passed
    assert "not worse than the champion" in refused(promote(registry, model_name, "1", exam, GATE))
    assert holder(registry, model_name) == "2"


def test_whoever_learnt_from_the_test_images_is_refused(
    registry: Registry, champion: ModelVersion, bundle_of: BundleOf, exam: Exam, data: Any
):
    """Its split is of the same data version, but of a lineage with another frozen test part."""
    repository = DataRepository(open_store(data.store))
    other = make_split(repository, data.first, "other", SplitSettings(test_fraction=0.34, seed=5)).id
    registry.register(bundle_of(PERFECT, split_id=other))
    done = promote(registry, champion.name, "2", exam, GATE)
    assert refused(done) == {"test images it learnt from"}
    assert "judge it on the split that it was made from" in done.reasons[0]
    assert holder(registry, champion.name) == champion.version


def test_a_model_of_data_that_are_not_here_is_refused(
    registry: Registry, champion: ModelVersion, bundle_of: BundleOf, exam: Exam
):
    """As one that was made elsewhere and put into this registry."""
    registry.register(bundle_of(PERFECT, split_id="7" * 64))
    done = promote(registry, champion.name, "2", exam, GATE)
    assert refused(done) == {"test images it learnt from"}
    assert "is not in this object store; judge it where it was made" in done.reasons[0]


def test_a_version_of_another_registry_is_none_of_this_one(
    registry: Registry, champion: ModelVersion, bundle_of: BundleOf, exam: Exam, tmp_path: Path
):
    elsewhere = Registry(f"sqlite:///{tmp_path / 'elsewhere.db'}", tmp_path / "elsewhere")
    elsewhere.register(bundle_of(GOOD))
    elsewhere.register(bundle_of(PERFECT))
    with pytest.raises(InputError, match="2"):
        promote(registry, champion.name, "2", exam, GATE)
    assert holder(registry, champion.name) == champion.version
    # Where it belongs, nobody is champion, and it may become it.
    assert promote(elsewhere, champion.name, "2", exam, GATE).champion == "2"
    assert holder(registry, champion.name) == champion.version


def test_a_split_that_does_not_exist_judges_nobody(
    registry: Registry, champion: ModelVersion, bundle_of: BundleOf, exam: Exam
):
    registry.register(bundle_of(PERFECT))
    with pytest.raises(DataError, match="9" * 12):
        promote(registry, champion.name, "2", Exam(exam.store_uri, "9" * 64, exam.home), GATE)
    assert holder(registry, champion.name) == champion.version


def test_a_challenger_whose_files_are_missing_is_not_promoted(
    registry: Registry, champion: ModelVersion, bundle_of: BundleOf, exam: Exam
):
    version = registry.register(bundle_of(PERFECT)).version
    shutil.rmtree(files_of(version))
    with pytest.raises((RegistryError, IntegrityError)):
        promote(registry, champion.name, "2", exam, GATE)
    with pytest.raises(InputError):
        promote(registry, champion.name, "3", exam, GATE)
    assert holder(registry, champion.name) == champion.version


def test_without_a_champion_the_verdict_says_so(registry: Registry, bundle_of: BundleOf, model_name: str, exam: Exam):
    registry.register(bundle_of(GOOD))
    done = promote(registry, model_name, "1", exam, GATE)
    (compared,) = (rule for rule in done.rules if rule.name == "not worse than the champion")
    assert (done.passed, compared.bound, compared.note) == (True, None, "there is no champion yet")


def test_of_two_that_were_made_champion_the_holder_of_the_alias_is_the_one(
    registry: Registry, champion: ModelVersion, bundle_of: BundleOf, exam: Exam
):
    """Somebody moves the alias by hand: both versions say that they were promoted, one is champion."""
    registry.register(bundle_of(PERFECT))
    assert promote(registry, champion.name, "2", exam, GATE).passed
    registry.set_alias(registry.show(champion.name, "1"), Alias.CHAMPION)
    assert [each.version for each in registry.versions(champion.name) if Alias.CHAMPION in each.aliases] == ["1"]
    # The hand's champion is the weaker one, so that the stronger one may be promoted against it.
    registry.register(bundle_of(GOOD, note="retrained"))
    done = promote(registry, champion.name, "3", exam, GATE)
    assert (done.passed, done.champion) == (True, "3")
    assert registry.show(champion.name, "3").tags["judged_against"] == "1"
