"""One door to the evaluation of every task: a version is scored, judged and reported as its bundle's task asks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from components.bundle import EVIDENCE_FILE, DetectorBundle, read_any_bundle
from components.datasets.versions import DataRepository
from components.errors import DataError
from components.evaluation.costs import measure_costs
from components.evaluation.detector.evidence import read_detector_evidence
from components.evaluation.detector.gate import judge_detector
from components.evaluation.detector.scored import BoxScored, score_detector
from components.evaluation.evidence import read_evidence
from components.evaluation.gates import judge
from components.evaluation.independence import learnt_images
from components.evaluation.scored import Scored
from components.evaluation.scoring import score_bundle
from components.evaluation.verdict import Verdict
from components.settings import GateSettings
from components.storage import open_store

AnyScored = Scored | BoxScored


def score_version(
    store_uri: str, split_id: str, bundle_dir: Path, cache: Path, rival: AnyScored | None = None
) -> AnyScored:
    """Score a model version on the test part of a split.

    Args:
        store_uri: Object store that holds the split and its images.
        split_id: The split's digest.
        bundle_dir: The model version's folder; its digests are checked.
        cache: Folder of the decoded images.
        rival: What it is held against; a detector then has to find the cells that its rival looked for.

    Raises:
        IntegrityError: if the bundle is altered or incomplete.
        DataError: if there is no such split, or its test part holds no images.
    """
    bundle, _ = read_any_bundle(bundle_dir)
    learnt = learnt_images(DataRepository(open_store(store_uri, must_exist=True)), bundle.split_id, split_id)
    if isinstance(bundle, DetectorBundle):
        positive = rival.positive if isinstance(rival, BoxScored) else None
        boxes = score_detector(store_uri, split_id, bundle_dir, cache, positive=positive)
        return replace(boxes, learnt=learnt, bundle=bundle_dir)
    return replace(score_bundle(store_uri, split_id, bundle_dir, cache), learnt=learnt, bundle=bundle_dir)


def judge_version(challenger: AnyScored, champion: AnyScored | None, settings: GateSettings) -> Verdict:
    """Judge a model by its answers on the frozen test images, and by what it costs to run here and now.

    Answers that came without a model are judged alone; see ``judge`` and ``judge_detector``.

    Raises:
        DataError: if the two were not asked the same of the same images.
    """
    costs = measure_costs(challenger.bundle, champion.bundle if champion else None) if challenger.bundle else None
    if isinstance(challenger, Scored) and (champion is None or isinstance(champion, Scored)):
        return judge(challenger, champion, settings, costs)
    if isinstance(challenger, BoxScored) and (champion is None or isinstance(champion, BoxScored)):
        return judge_detector(challenger, champion, settings, costs)
    raise DataError("challenger and champion are models for different tasks; compare models of one task")


def write_version_page(bundle_dir: Path, path: Path, **about: Any) -> None:
    """Write the report of the version in a folder; the keywords are those of ``render_report``.

    Raises:
        IntegrityError: if the bundle is altered or incomplete.
    """
    from components.evaluation.detector.report import write_detector_report
    from components.evaluation.report import write_report

    bundle, _ = read_any_bundle(bundle_dir)
    evidence = bundle_dir / EVIDENCE_FILE
    if isinstance(bundle, DetectorBundle):
        write_detector_report(path, read_detector_evidence(evidence), **about)
    else:
        write_report(path, read_evidence(evidence), **about)
