"""The gate against challengers that are known to be bad, or known to be good; every one is a mutant of the champion.

The test images are those of 24 vessels of two laboratories, four a vessel. See also
``tests/components/registry/test_gate_mutations.py``.
"""

from dataclasses import replace

import numpy as np
import pytest

from components.errors import DataError
from components.evaluation.gates import judge
from components.settings import GateSettings

VESSELS, IMAGES = 24, 4
N = VESSELS * IMAGES
GATE = GateSettings()


@pytest.fixture(scope="module")
def champion(make_scored):
    """Right in 84 of 96 images; the 12 errors are one class off, and in as many vessels."""
    truth = np.tile([1, 2, 3, 4], VESSELS)
    named = truth.copy()
    for vessel in range(0, VESSELS, 2):
        row = vessel * IMAGES + vessel // 2 % 3
        named[row] = truth[row] + 1
    return make_scored(
        truth=truth,
        logits=logits(named),
        model="a" * 64,
        groups=tuple(f"v{row // IMAGES}" for row in range(N)),
        slices={"source": tuple("north" if row < N * 2 // 3 else "south" for row in range(N)), "donor": ("",) * N},
    )


def logits(named):
    return np.eye(4)[np.asarray(named) - 1] * 3.5


def mutant(champion, named, **changes):
    return replace(champion, model="c" * 64, logits=logits(named), **changes)


def refused(verdict):
    return [rule.name for rule in verdict.rules if not rule.passed]


def wrong_rows(champion):
    return np.flatnonzero(~champion.right)


def test_the_identical_model_passes(champion):
    verdict = judge(mutant(champion, champion.predicted), champion, GATE)
    assert verdict.passed
    assert {rule.figure for rule in verdict.rules if "not worse" in rule.name} == {0.0}


def test_a_better_model_passes(champion):
    named = champion.predicted.copy()
    mended = wrong_rows(champion)[:8]
    named[mended] = champion.truth[mended]
    assert judge(mutant(champion, named), champion, GATE).passed


def test_swapped_with_the_champion_it_does_not(champion):
    named = champion.predicted.copy()
    mended = wrong_rows(champion)[:8]
    named[mended] = champion.truth[mended]
    verdict = judge(champion, mutant(champion, named), GATE)
    assert {"not worse than the champion", "not behind on the test images"} <= set(refused(verdict))


def test_a_model_that_learnt_shuffled_labels_fails_floors_and_comparison(champion):
    named = np.random.default_rng(0).permutation(champion.predicted)
    failed = set(refused(judge(mutant(champion, named), champion, GATE)))
    assert {"accuracy", "within one class", "calibration error"} <= failed
    assert {"not worse than the champion", "not behind on the test images"} <= failed


def test_a_model_that_only_knows_the_commonest_class_fails(champion):
    failed = refused(judge(mutant(champion, [1] * N), champion, GATE))
    assert {"better than the commonest class", "missed overgrowth", "recall of class 2"} <= set(failed)


@pytest.mark.parametrize(
    ("laboratory", "rule"), [("north", "not worse in source north"), ("south", "worse in no small slice")]
)
def test_degraded_in_one_laboratory_only_is_refused_for_it(champion, laboratory, rule):
    """It is right wherever the champion errs in the other laboratory, and wrong in one image a vessel of this one."""
    here = np.array(champion.slices["source"]) == laboratory
    named = np.where(here, champion.predicted, champion.truth)
    hit = np.flatnonzero(here & (np.arange(N) % IMAGES == 2))
    named[hit] = 2
    worse = judge(mutant(champion, named), champion, GATE)
    assert rule in refused(worse)
    assert laboratory in next(reason for reason in worse.reasons if "source" in reason)


def test_better_on_average_but_blind_to_some_overgrowth_is_refused_for_that(champion):
    """All of the champion's errors are mended, and three of 24 overgrown images taken for an empty floor."""
    named = champion.truth.copy()
    overgrown = np.flatnonzero(champion.truth == 4)
    named[overgrown[[3, 9, 20]]] = 1
    challenger = mutant(champion, named)
    assert challenger.right.mean() > champion.right.mean()
    verdict = judge(challenger, champion, GATE)
    assert "missed overgrowth" not in refused(verdict)  # the floor alone would have let it through
    assert "not worse in missed overgrowth" in refused(verdict)


def test_as_right_but_with_a_confidence_that_means_nothing_is_refused(champion):
    named = champion.predicted
    unsure = replace(champion, model="c" * 64, logits=np.eye(4)[named - 1] * 0.8)
    assert refused(judge(unsure, champion, GATE)) == ["calibration error"]


@pytest.mark.parametrize(
    "change",
    [
        {"sha256s": tuple(f"{row + 1:064x}" for row in range(N))},
        {"paths": tuple(f"other/{row}.png" for row in range(N))},
        {"truth": np.roll(np.tile([1, 2, 3, 4], VESSELS), 1)},
    ],
)
def test_scored_on_another_data_version_is_no_comparison(champion, change):
    with pytest.raises(DataError, match="score both on one"):
        judge(mutant(champion, champion.predicted, **change), champion, GATE)


def test_having_seen_the_test_images_is_refused_however_good(champion):
    verdict = judge(mutant(champion, champion.truth, learnt=N), champion, GATE)
    assert refused(verdict) == ["test images it learnt from"]


def test_without_a_champion_the_floors_decide(champion):
    assert judge(mutant(champion, champion.predicted), None, GATE).passed
    assert not judge(mutant(champion, [1] * N), None, GATE).passed
