"""What a drift verdict looks like to a person: one HTML file that needs no scripts and no network."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from markupsafe import Markup

from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.evaluation.pictures import data_uri
from components.evaluation.report import page_environment
from components.imaging import decode
from components.screening.drift.verdict import DriftVerdict

PAGE_FILE = "drift.html"
VERDICT_FILE = "drift.json"
_TEMPLATE = "drift.html.j2"
_NAMES = {"statistics": "light, colour and texture", "features": "what the champion's network sees"}
_SIDE = 160


def write_page(
    verdict: DriftVerdict,
    repository: DataRepository,
    reference: Sequence[ImageRecord],
    batch: Sequence[ImageRecord],
    name: str,
    folder: Path,
) -> Path:
    """Write ``drift.html``, with pictures of the most foreign images, and ``drift.json`` for machines.

    Args:
        verdict: Of ``judge_drift`` for the same images.
        repository: Where they lie.
        reference: What the batch was held against.
        batch: Its images.
        name: Of the batch.
        folder: Where to; it exists.

    Returns:
        The page.
    """
    (folder / VERDICT_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(verdict), indent=2) + b"\n")
    template = page_environment("components.screening.drift").get_template(_TEMPLATE)
    known = {record.path: record for record in reference}
    text = template.render(
        name=name,
        verdict=verdict,
        names=_NAMES,
        foreign=_pictures(repository, {record.path: record for record in batch}, verdict.most_foreign),
        usual=_pictures(repository, known, verdict.most_usual),
    )
    path = folder / PAGE_FILE
    path.write_text(text, encoding="utf-8")
    return path


def _pictures(
    repository: DataRepository, records: dict[str, ImageRecord], paths: Sequence[str]
) -> list[tuple[str, Markup]]:
    return [
        (path, Markup(data_uri(decode(repository.image(records[path])), _SIDE)))  # noqa: S704  our own base64
        for path in paths
        if path in records
    ]
