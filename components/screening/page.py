"""The screening page and the review queue's gallery: HTML that needs no scripts and no network."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from components.culture import CLASSES
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.pictures import data_uri
from components.evaluation.report import page_environment
from components.imaging import decode
from components.screening.agreement import Tally, tally
from components.screening.findings import Findings
from components.screening.leakage import Copy
from components.screening.review import Queued

TEMPLATE, GALLERY_TEMPLATE = "screening.html.j2", "gallery.html.j2"
MOST_PICTURES = 24
MOST_PAIRS = 8
MOST_IN_GALLERY = 300
MOST_GROUPS = 30
_STATISTICS = 8


class _Contradiction(NamedTuple):
    record: ImageRecord
    suggested: str
    confidence: float
    foreign: bool
    uri: str


def render_page(repository: DataRepository, found: Findings, review: str | None) -> str:
    """Render the page of a batch's screening.

    Args:
        repository: Holds the images.
        found: What was found.
        review: Folder or prefix of the review queue, if there is one.
    """
    return (
        page_environment("components.screening")
        .get_template(TEMPLATE)
        .render(
            f=found,
            review=review,
            classes=CLASSES,
            groups=_groups(found),
            contradictions=_contradictions(repository, found),
            contradicted=sum(opinion.wrong > 0 for opinion in found.opinions.values()),
            pairs=_pairs(repository, found.copies),
            changes=found.changes[:_STATISTICS],
            foreign=_pictures(repository, _foreign(found)),
        )
    )


def render_gallery(repository: DataRepository, found: Findings, queued: Sequence[Queued]) -> str:
    """Render the gallery of a review queue, in its order."""
    shown = queued[:MOST_IN_GALLERY]
    pictures = _pictures(repository, [each.record for each in shown])
    return (
        page_environment("components.screening")
        .get_template(GALLERY_TEMPLATE)
        .render(f=found, classes=CLASSES, items=list(zip(shown, pictures, strict=True)), total=len(queued))
    )


def _groups(found: Findings) -> list[dict[str, Any]]:
    """Give the vessels whose labels the champion contradicts most."""
    counts = _counted(found)
    shares = counts.wrong / counts.asked
    order = np.lexsort((-counts.wrong, -shares))
    rows = [
        {"name": counts.groups[row], "wrong": counts.wrong[row], "asked": counts.asked[row], "share": shares[row]}
        for row in order
        if counts.wrong[row]
    ]
    return rows[:MOST_GROUPS]


def _counted(found: Findings) -> Tally:
    asked = [record for record in found.fit if record.path in found.opinions]
    said = [found.opinions[record.path] for record in asked]
    groups = [record.split_group for record in asked]
    return tally(groups, [each.wrong for each in said], [each.asked for each in said])


def _contradictions(repository: DataRepository, found: Findings) -> list[_Contradiction]:
    """Give the images on which the champion is surest that the label is wrong, familiar ones first."""
    wrong = [record for record in found.fit if (said := found.opinions.get(record.path)) and said.wrong]
    wrong.sort(key=lambda record: _surety(found, record))
    shown = wrong[:MOST_PICTURES]
    return [
        _Contradiction(record, said.suggested, said.confidence, said.foreign, uri)
        for record, (_, uri) in zip(shown, _pictures(repository, shown), strict=True)
        for said in [found.opinions[record.path]]
    ]


def _surety(found: Findings, record: ImageRecord) -> tuple[bool, float, str]:
    said = found.opinions[record.path]
    return said.foreign, -said.confidence, record.path


def _foreign(found: Findings) -> list[ImageRecord]:
    if found.drift is None or not found.drift.drifted:
        return []
    by_path = {record.path: record for record in found.fit}
    return [by_path[path] for path in found.drift.most_foreign if path in by_path][:MOST_PICTURES]


def _pairs(repository: DataRepository, copies: Sequence[Copy]) -> list[tuple[Copy, str, str]]:
    # Re-encoded ones are worth seeing; of those with the same bytes there is nothing to compare.
    shown = sorted(copies, key=lambda copy: (copy.kind != "test image", copy.likeness))[:MOST_PAIRS]
    return [(copy, _uri(repository, copy.sha256), _uri(repository, copy.of_sha256)) for copy in shown]


def _pictures(repository: DataRepository, records: Iterable[ImageRecord]) -> list[tuple[ImageRecord, str]]:
    return [(record, data_uri(decode(repository.image(record)))) for record in records]


def _uri(repository: DataRepository, sha256: str) -> str:
    return data_uri(decode(repository.image(ImageRecord(path=sha256, sha256=sha256, size=0))))
