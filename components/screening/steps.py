"""The screening step: what a batch may teach, what a person should look at, and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from components.audit.entry import this_actor
from components.audit.log import AuditLog
from components.culture import ABNORMAL_MODEL
from components.datasets.manifest import ImageRecord
from components.datasets.refs import Refs
from components.datasets.versions import DataRepository
from components.evaluation.familiarity import descriptions
from components.novelty import Difference
from components.registry.versions import Registry
from components.screening import agreement, balance, leakage, page, review
from components.screening.champion import Champion, Opinion
from components.screening.checks import Check, at_most
from components.screening.drift import DriftVerdict, judge_drift, write_page
from components.screening.findings import Findings, Verdict
from components.settings import DriftSettings, ScreeningSettings
from components.storage import open_store

AGREEMENT = "disagreement with the champion"
COPIES = "copies of the lineage's images"
PAGE, FINDINGS = "screening.html", "screening.json"


class _Batch(NamedTuple):
    """What is screened, and what it is held against."""

    repository: DataRepository
    version: str
    lineage: str
    name: str
    records: list[ImageRecord]
    parent: list[ImageRecord]
    champion: Champion | None
    detector: bool
    cache: Path

    def labelled(self, record: ImageRecord) -> bool:
        return record.boxes is not None if self.detector else record.confluence_class is not None

    def before(self, fit: Sequence[ImageRecord]) -> list[ImageRecord]:
        """Give the lineage's images without those that have come again."""
        here = {record.path for record in fit}
        return [record for record in self.parent if record.path not in here]


def screen(
    store_uri: str,
    batch_version: str,
    lineage: str,
    model_name: str,
    mlflow_uri: str,
    screening: ScreeningSettings,
    drift: DriftSettings,
    home: Path,
    output: Path,
) -> dict[str, Any]:
    """Hold a batch against its lineage and the champion; nothing of the lineage moves.

    Args:
        store_uri: Where data versions live.
        batch_version: The batch's images that are fit for use.
        lineage: That it is meant for.
        model_name: Registered model whose champion is asked.
        mlflow_uri: The registry.
        screening: Bounds of the checks.
        drift: Of the drift tests.
        home: Where bundles, measurements and, without S3, the review queue lie.
        output: Folder that gets the page, ``screening.json`` and, where there is something to compare with, drift's.

    Returns:
        ``verdict`` (admitted, stopped or queued), ``reasons``, ``checks``, ``drift`` (None where there is nothing to
        compare with), ``admissible`` (version of what may be learnt from; '' for nothing), ``refused`` (counts by
        reason), ``images``, ``page`` and ``review`` (folder or prefix of the review queue, None without one).

    Raises:
        DataError: if there is no such version.
        IntegrityError: if the store or the registry has lost or altered something.
        RegistryError: if MLflow does not answer.
    """
    store = open_store(store_uri, must_exist=True)
    repository = DataRepository(store, cache=home / "cache")
    batch = _gather(repository, batch_version, lineage, model_name, mlflow_uri, home)
    found = _judge(batch, screening, drift)
    queued = review.queue(
        found.fit,
        found.opinions,
        found.drift.most_foreign if found.drift and found.drift.drifted else (),
        doubted=found.agreement is not None and not found.agreement.trusted,
        detector=batch.detector,
    )
    place = review.place_of(store, home, lineage, batch.name)
    if queued:
        review.write_queue(repository, place, batch_version, queued, page.render_gallery(repository, found, queued))
    admissible = _admissible(batch, found)
    where = place.uri if queued else None
    output.mkdir(parents=True, exist_ok=True)
    (output / PAGE).write_text(page.render_page(repository, found, where), encoding="utf-8")
    result = {**found.told(), "admissible": admissible, "page": str(output / PAGE), "review": where}
    if found.drift is not None:
        write_page(found.drift, repository, batch.before(found.fit), found.fit, batch.name, output)
    (output / FINDINGS).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    _tell(AuditLog(store), found, result, model_name)
    return result


def _gather(
    repository: DataRepository, version: str, lineage: str, model_name: str, mlflow_uri: str, home: Path
) -> _Batch:
    records = list(repository.records(version))
    head = Refs(repository.store).head(lineage)
    registry = Registry(mlflow_uri, home)
    holder = registry.champion(model_name)
    champion = None
    if holder is not None:
        champion = Champion(registry.download(model_name, holder.version, home / "models"), holder.version)
    return _Batch(
        repository=repository,
        version=version,
        lineage=lineage,
        name=records[0].batch or version[:12],
        records=records,
        parent=list(repository.records(head.version)) if head else [],
        champion=champion,
        detector=model_name == ABNORMAL_MODEL,
        cache=home / "cache",
    )


def _judge(batch: _Batch, screening: ScreeningSettings, drift: DriftSettings) -> Findings:
    copies = leakage.find_copies(
        batch.repository, batch.records, batch.parent, batch.lineage, screening.similarity, batch.cache
    )
    refused = {copy.path for copy in copies}
    fit = [record for record in batch.records if record.path not in refused]
    labelled = [record for record in fit if batch.labelled(record)]
    opinions = _opinions(batch, fit)
    agreed, held = _agreement(batch, labelled, opinions, screening)
    changes = _changes(batch, fit)
    checks = [
        agreed,
        at_most(COPIES, float(len(copies)), None, "images; they are refused, the others are not", share=False),
        balance.check_balance(labelled, batch.parent, screening.max_class_shift),
        balance.check_statistics(changes, screening.max_statistics_shift),
    ]
    return Findings(
        name=batch.name,
        lineage=batch.lineage,
        version=batch.version,
        champion=batch.champion.version if batch.champion else None,
        verdict=_verdict(fit, labelled, checks),
        checks=tuple(checks),
        images=len(batch.records),
        fit=tuple(fit),
        labelled=len(labelled),
        copies=tuple(copies),
        opinions=opinions,
        agreement=held,
        shares=(balance.class_shares(labelled), balance.class_shares(batch.parent)),
        changes=tuple(changes or ()),
        drift=_drift(batch, fit, drift),
        detector=batch.detector,
    )


def _opinions(batch: _Batch, fit: Sequence[ImageRecord]) -> dict[str, Opinion]:
    if batch.champion is None or not fit:
        return {}
    said = batch.champion.opinions(batch.repository, fit, batch.cache)
    return {record.path: opinion for record, opinion in zip(fit, said, strict=True)}


def _agreement(
    batch: _Batch, labelled: Sequence[ImageRecord], opinions: dict[str, Opinion], settings: ScreeningSettings
) -> tuple[Check, agreement.Agreement | None]:
    if batch.champion is None:
        return at_most(AGREEMENT, None, None, "there is no champion yet that could contradict a label"), None
    # What looks foreign to the champion it may well get wrong, whatever the label.
    asked = [record for record in labelled if not opinions[record.path].foreign and opinions[record.path].asked]
    said = [opinions[record.path] for record in asked]
    counted = agreement.tally(
        [record.split_group for record in asked], [each.wrong for each in said], [each.asked for each in said]
    )
    held = agreement.judge_labels(
        batch.champion.known_error(),
        counted,
        false_stop=settings.false_stop,
        margin=settings.margin,
        seed=settings.seed,
    )
    foreign = len(labelled) - sum(not opinions[record.path].foreign for record in labelled)
    note = (
        f"{len(asked)} images of {len(counted.groups)} vessels or groups; its known error is {100 * held.known:.1f} %"
        f"{f'; {foreign} images look foreign to it and are left out' if foreign else ''}"
    )
    return at_most(AGREEMENT, held.disagreement, held.bound, note), held


def _changes(batch: _Batch, fit: Sequence[ImageRecord]) -> list[Difference] | None:
    before = batch.before(fit)
    if not fit or not before:
        return None
    return balance.changes(
        descriptions(batch.repository, fit, batch.cache), descriptions(batch.repository, before, batch.cache)
    )


def _drift(batch: _Batch, fit: Sequence[ImageRecord], settings: DriftSettings) -> DriftVerdict | None:
    before = batch.before(fit)
    if not fit or not before:
        return None
    folder = batch.champion.folder if batch.champion else None
    return judge_drift(batch.repository, before, fit, folder, settings, batch.cache)


def _verdict(fit: Sequence[ImageRecord], labelled: Sequence[ImageRecord], checks: Sequence[Check]) -> Verdict:
    if not fit or not all(check.passed for check in checks):
        return "stopped"
    return "admitted" if labelled else "queued"


def _admissible(batch: _Batch, found: Findings) -> str:
    if found.verdict != "admitted":
        return ""
    return batch.repository.add_version(record for record in found.fit if batch.labelled(record))


def _tell(log: AuditLog, found: Findings, result: dict[str, Any], model_name: str) -> None:
    subject, actor = f"{found.lineage}/{found.name}", this_actor()
    reason = " ".join(found.reasons)
    details = {
        "batch_version": found.version,
        "model": model_name,
        "champion": found.champion,
        **{key: result[key] for key in ("verdict", "checks", "refused", "admissible", "review")},
        "drifted": found.drift.drifted if found.drift else None,
    }
    log.append("batch.screened", subject, actor=actor, reason=reason, details=details)
    if found.verdict != "admitted":
        log.append(
            f"batch.{found.verdict}", subject, actor=actor, reason=reason, details={"batch_version": found.version}
        )
