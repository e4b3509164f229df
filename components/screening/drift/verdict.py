"""Drift: does a new batch look different from the images before it, and in what?

Each modality and source is held against its like, by the statistics of ``components.novelty`` and by what the
champion's network sees. Drift says nothing of labels, and releases or stops nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from scipy.spatial.distance import cdist

from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.familiarity import descriptions
from components.evaluation.resampling import Floats, Integers, group_index
from components.novelty import INDIFFERENT, MOST_REFERENCES, in_words, standardised
from components.screening.drift.comparison import FEWEST_RUNS, Compared, Sides, compare, within_whitening
from components.screening.drift.features import features
from components.settings import DriftSettings

Kind = Literal["statistics", "features"]

MOST_FOREIGN = 24
# Directions of the features that are compared: those in which the images differ most.
_DIRECTIONS = 20
_FEATURE_SLACK = 0.05
_NEAREST = 3
_FEWEST_GROUPS = 5
_SHIFTS = 3


class Shift(msgspec.Struct, frozen=True):
    """A statistic of the images that has changed.

    Attributes:
        name: One of ``components.novelty.TRAITS``.
        size: Change of its mean over images, in standard deviations of the reference.
        words: How the batch's images are, such as ``blurrier``.
    """

    name: str
    size: float
    words: str


class DriftTest(msgspec.Struct, frozen=True, kw_only=True):
    """One comparison of a batch with its reference.

    Attributes:
        kind: By the images' ``statistics``, or by ``features``: what the champion's network sees.
        modality: Whose images are compared; '' where unknown.
        source: Likewise.
        statistic: Energy distance, scaled by the number of groups; None where there is nothing to compare with.
        effect: Energy distance as a share, 0 (alike) to 1 (nothing in common).
        p: Of images like those before differing as much.
        p_groups: That of vessels alone, which change sides by chance.
        p_runs: That of seeding runs, as far as the reference's differ; None where it has too few.
        bound: The p below which this test calls drift.
        n: Images of the batch.
        groups: Groups (vessels) of the batch.
        reference_n: Images that they are held against.
        reference_groups: Their groups.
        drifted: Whether p lies at or below the bound.
        shifts: What has changed most, of the statistics.
        note: What limits the test; '' if nothing does.
    """

    kind: Kind
    modality: str
    source: str
    statistic: float | None
    effect: float | None
    p: float | None
    p_groups: float | None
    p_runs: float | None
    bound: float
    n: int
    groups: int
    reference_n: int
    reference_groups: int
    drifted: bool
    shifts: tuple[Shift, ...] = ()
    note: str = ""


class DriftVerdict(msgspec.Struct, frozen=True):
    """Whether a batch looks different from the images before it.

    Attributes:
        drifted: Whether any test says so.
        alarm_rate: Share of batches like those before for which one may say so.
        tests: By kind, modality and source.
        most_foreign: Paths of the batch's images that lie farthest from the reference, the farthest first.
        most_usual: Paths of reference images, typical ones first, to look at beside them.
    """

    drifted: bool
    alarm_rate: float
    tests: tuple[DriftTest, ...]
    most_foreign: tuple[str, ...]
    most_usual: tuple[str, ...]


class _Stratum(NamedTuple):
    """The images of one modality and source: the batch's come first."""

    modality: str
    source: str
    batch: list[ImageRecord]
    reference: list[ImageRecord]

    @property
    def records(self) -> list[ImageRecord]:
        return [*self.batch, *self.reference]


class _Grouped(NamedTuple):
    """Groups of a stratum: each image's number, and of each group its run and its side."""

    number: Integers
    runs: list[str]
    in_batch: Sides


class _Outcome(NamedTuple):
    tests: list[DriftTest]
    foreign: list[tuple[float, str]]
    usual: list[tuple[float, str]]


def judge_drift(
    repository: DataRepository,
    reference: Sequence[ImageRecord],
    batch: Sequence[ImageRecord],
    bundle_dir: Path | None,
    settings: DriftSettings,
    cache: Path,
) -> DriftVerdict:
    """Tell whether a batch looks different from the images before it.

    Args:
        repository: Where the images lie.
        reference: Images that are known, such as those of the lineage; may be empty.
        batch: New ones, at least one.
        bundle_dir: The champion's bundle; None leaves out what its network sees.
        settings: The share of false alarms, and the permutations.
        cache: Local folder that remembers what was measured.

    Raises:
        ImageError: naming an image that cannot be decoded.
        IntegrityError: if the bundle, or an image in the store, is altered or incomplete.
        StorageError: if the cache cannot be written.
        ValueError: if the batch is empty.
    """
    if not batch:
        raise ValueError("a batch without images cannot be compared with anything")
    strata = _strata(reference, batch)
    kinds: tuple[Kind, ...] = ("statistics",) if bundle_dir is None else ("statistics", "features")
    # Bonferroni: the kinds of one stratum tell nearly the same, so that this errs on the safe side.
    bound = settings.false_alarm / max(1, len(kinds) * sum(bool(stratum.reference) for stratum in strata))
    found = [_judge(repository, stratum, bundle_dir, settings, bound, cache) for stratum in strata]
    tests = tuple(test for each in found for test in each.tests)
    foreign = sorted((item for each in found for item in each.foreign), reverse=True)
    usual = sorted(item for each in found for item in each.usual)
    return DriftVerdict(
        drifted=any(test.drifted for test in tests),
        alarm_rate=settings.false_alarm,
        tests=tests,
        most_foreign=tuple(path for _, path in foreign[:MOST_FOREIGN]),
        most_usual=tuple(path for _, path in usual[: MOST_FOREIGN // 2]),
    )


def _strata(reference: Sequence[ImageRecord], batch: Sequence[ImageRecord]) -> list[_Stratum]:
    keys = sorted({_key(record) for record in batch})
    chosen = [
        (key, [[record for record in part if _key(record) == key] for part in (batch, reference)]) for key in keys
    ]
    return [_Stratum(*key, _limited(mine), _limited(_of_like_days(mine, theirs))) for key, (mine, theirs) in chosen]


def _key(record: ImageRecord) -> tuple[str, str]:
    return record.modality or "", record.source or ""


def _of_like_days(batch: list[ImageRecord], reference: list[ImageRecord]) -> list[ImageRecord]:
    """Keep the reference's images of the batch's days, as cultures look different from day to day."""
    days = {record.day for record in batch}
    kept = [record for record in reference if record.day in days]
    enough = len({record.split_group for record in kept}) >= _FEWEST_GROUPS
    return kept if None not in days and enough else reference


def _limited(records: list[ImageRecord]) -> list[ImageRecord]:
    """Take whole groups, in the order of their images' digests, up to ``MOST_REFERENCES`` images."""
    if len(records) <= MOST_REFERENCES:
        return records
    members: dict[str, list[ImageRecord]] = {}
    for record in records:
        members.setdefault(record.split_group, []).append(record)
    kept: list[ImageRecord] = []
    for group in sorted(members.values(), key=lambda group: min(record.sha256 for record in group)):
        if kept and len(kept) + len(group) > MOST_REFERENCES:
            break
        kept += group
    return kept


def _judge(
    repository: DataRepository,
    stratum: _Stratum,
    bundle_dir: Path | None,
    settings: DriftSettings,
    bound: float,
    cache: Path,
) -> _Outcome:
    if not stratum.reference:
        test = _untested(stratum, "statistics", bound, "new: no image before it is of this modality and source")
        return _Outcome([test], [(np.inf, record.path) for record in stratum.batch], [])
    grouped = _grouped(stratum)
    described = descriptions(repository, stratum.records, cache)
    placed = described @ within_whitening(described, grouped.number, INDIFFERENT)
    shifts = _shifts(described, len(stratum.batch))
    tests = [_tested(stratum, "statistics", placed, grouped, settings, bound, shifts)]
    if bundle_dir is not None:
        seen = features(repository, stratum.records, bundle_dir, cache)
        if seen is None:
            tests.append(_untested(stratum, "features", bound, "the champion's network has no layer of weights"))
        else:
            tests.append(_tested(stratum, "features", _feature_space(seen, grouped), grouped, settings, bound))
    return _Outcome(tests, *_ranked(stratum, placed))


def _grouped(stratum: _Stratum) -> _Grouped:
    records = stratum.records
    sides = ["batch"] * len(stratum.batch) + ["reference"] * len(stratum.reference)
    # A vessel that goes on from earlier batches is a group on either side.
    number = group_index([f"{side}:{each.split_group}" for side, each in zip(sides, records, strict=True)])
    first = [records[index] for index in np.unique(number, return_index=True)[1]]
    runs = [f"{each.batch}|{each.donor}|{each.lot}|{each.passage}" for each in first]
    in_batch = np.zeros(len(runs), bool)
    in_batch[number[: len(stratum.batch)]] = True
    return _Grouped(number, runs, in_batch)


def _feature_space(seen: Floats, grouped: _Grouped) -> Floats:
    """Place images by the directions in which their features differ most, shape (N, up to ``_DIRECTIONS``)."""
    scaled = (seen - seen.mean(axis=0)) / (seen.std(axis=0) + 1e-9)
    left, sizes, _ = np.linalg.svd(scaled, full_matrices=False)
    kept = (left * sizes)[:, :_DIRECTIONS]
    slack = _FEATURE_SLACK * kept.var(axis=0).mean() + 1e-9
    placed: Floats = kept @ within_whitening(kept, grouped.number, slack * np.eye(kept.shape[1]))
    return placed


def _tested(
    stratum: _Stratum,
    kind: Kind,
    points: Floats,
    grouped: _Grouped,
    settings: DriftSettings,
    bound: float,
    shifts: tuple[Shift, ...] = (),
) -> DriftTest:
    result = compare(
        points,
        grouped.number,
        grouped.runs,
        grouped.in_batch,
        permutations=settings.permutations,
        seed=settings.seed,
    )
    return DriftTest(
        kind=kind,
        modality=stratum.modality,
        source=stratum.source,
        statistic=result.statistic,
        effect=result.effect,
        p=result.p,
        p_groups=result.p_groups,
        p_runs=result.p_runs,
        bound=bound,
        n=len(stratum.batch),
        groups=int(grouped.in_batch.sum()),
        reference_n=len(stratum.reference),
        reference_groups=int((~grouped.in_batch).sum()),
        drifted=result.p <= bound,
        shifts=shifts,
        note=_note(result, bound),
    )


def _note(result: Compared, bound: float) -> str:
    if result.least > bound:
        return f"too few groups (vessels): even the clearest difference has p {result.least:.2g} here"
    if result.p_runs is None:
        return f"fewer than {FEWEST_RUNS} seeding runs like the batch: how far runs differ anyway is not known"
    return ""


def _untested(stratum: _Stratum, kind: Kind, bound: float, note: str) -> DriftTest:
    return DriftTest(
        kind=kind,
        modality=stratum.modality,
        source=stratum.source,
        statistic=None,
        effect=None,
        p=None,
        p_groups=None,
        p_runs=None,
        bound=bound,
        n=len(stratum.batch),
        groups=len({record.split_group for record in stratum.batch}),
        reference_n=len(stratum.reference),
        reference_groups=len({record.split_group for record in stratum.reference}),
        drifted=False,
        note=note,
    )


def _shifts(described: Floats, count: int) -> tuple[Shift, ...]:
    sizes = standardised(described[:count].mean(axis=0), described[count:])
    most = np.argsort(-np.abs(sizes), kind="stable")[:_SHIFTS]
    return tuple(Shift(*in_words(int(trait), float(sizes[trait]))) for trait in most)


def _ranked(stratum: _Stratum, placed: Floats) -> tuple[list[tuple[float, str]], list[tuple[float, str]]]:
    """Give each image's distance from the reference images that are nearest to it: the batch's, and theirs."""
    count = len(stratum.batch)
    between = np.sort(cdist(placed[:count], placed[count:]), axis=1)[:, :_NEAREST].mean(axis=1)
    middle = np.linalg.norm(placed[count:] - np.median(placed[count:], axis=0), axis=1)
    foreign = [(float(far), record.path) for far, record in zip(between, stratum.batch, strict=True)]
    usual = [(float(far), record.path) for far, record in zip(middle, stratum.reference, strict=True)]
    return foreign, usual
