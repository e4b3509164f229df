"""The review queue: a folder of images and a table that a person fills in, for ``mscflow data import`` to take.

    <batch>/…        the images, under the paths that they have in the lineage
    labels.csv       a row an image: what is known of it, its class or an empty cell, and why somebody should look
    boxes.csv        the cells, if any image was searched for them
    index.html       pictures, those first that a look is worth most
    review.json      which version of the batch this is; the way back does without it

Rows whose class is empty stay out of an import, and the others replace the images of the same paths.
"""

import csv
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from components.culture import ConfluenceClass
from components.datasets.checkout import LABELS_FILE
from components.datasets.importers.cells import parse_class
from components.datasets.manifest import ImageRecord
from components.datasets.versions import DataRepository
from components.errors import ObjectNotFound
from components.screening.champion import Opinion
from components.storage import LocalStore, ObjectStore, open_store

GALLERY, NOTE = "index.html", "review.json"
# Columns that go beside what is known of an image; they stay with it, as what its labeller was shown.
SUGGESTED, CONFIDENCE, NOVELTY, WHY, GIVEN = "suggested_class", "confidence", "novelty", "why", "given_class"

NO_LABEL = "no label yet"
FOREIGN = "looks unlike earlier images"


class Queued(msgspec.Struct, frozen=True):
    """One image that a person should look at.

    Attributes:
        record: The image, with the label that is to stand unless the person changes it, or none.
        why: What for.
        opinion: The champion's, if there is one.
        given: The class that the batch gave, where it is not to stand by itself.
    """

    record: ImageRecord
    why: str
    opinion: Opinion | None = None
    given: ConfluenceClass | None = None


class _Note(msgspec.Struct, frozen=True):
    batch_version: str
    images: dict[str, str]


def queue(
    records: Sequence[ImageRecord],
    opinions: Mapping[str, Opinion],
    foreign: Sequence[str] = (),
    *,
    doubted: bool = False,
    detector: bool = False,
) -> list[Queued]:
    """Choose what a person should look at, what a look is worth most first.

    Args:
        records: The batch's images.
        opinions: The champion's, by path; empty where there is none.
        foreign: Paths of images that look unlike earlier ones.
        doubted: Whether the batch's labels are not to be trusted: then all its images are looked at, and a class
            that the champion contradicts does not stand.
        detector: Whether the question is one of cells, not of classes.
    """
    unlike = set(foreign)
    chosen = []
    for record in records:
        opinion = opinions.get(record.path)
        lacking = record.boxes is None if detector else record.confluence_class is None
        if lacking:
            chosen.append(Queued(record, NO_LABEL, opinion))
        elif doubted:
            chosen.append(_doubted(record, opinion))
        elif record.path in unlike:
            chosen.append(Queued(record, FOREIGN, opinion))
    return sorted(chosen, key=_worth)


def place_of(store: ObjectStore, home: Path, lineage: str, batch: str) -> ObjectStore:
    """Give the folder of a batch's queue: under the home, or beside the images where those lie in S3."""
    if store.remote:
        return open_store(f"{store.uri}/review/{lineage}/{batch}")
    return LocalStore(home / "review" / lineage / batch)


def write_queue(
    repository: DataRepository, place: ObjectStore, batch_version: str, queued: Sequence[Queued], gallery: str
) -> None:
    """Write a queue; what a person has filled in of the same images stays.

    Each file appears whole, and the table after the images, so that a crash leaves nothing that would be imported
    wrongly; the next call finishes it.

    Args:
        repository: Where the images lie.
        place: The queue's folder.
        batch_version: The version of the batch.
        queued: At least one image.
        gallery: The page that shows them, HTML.
    """
    note = _Note(batch_version, {each.record.path: each.record.sha256 for each in queued})
    before = _note(place)
    if before == note:
        return
    records = [_row(each) for each in _with_answers(queued, place, before)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "queue"
        repository.checkout(repository.add_version(records), folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in sorted(files, key=lambda path: path.name == LABELS_FILE):
            place.write(path.relative_to(folder).as_posix(), path)
        kept = {path.relative_to(folder).as_posix() for path in files}
    place.write(GALLERY, gallery.encode())
    place.write(NOTE, msgspec.json.format(msgspec.json.encode(note), indent=1))
    for info in list(place.list()):
        if info.key not in kept | {GALLERY, NOTE}:
            place.delete(info.key)


def _doubted(record: ImageRecord, opinion: Opinion | None) -> Queued:
    if opinion is None or not opinion.wrong or record.confluence_class is None:
        return Queued(record, "its batch was stopped for its labels", opinion)
    why = f"labelled {int(record.confluence_class)}, but the champion says {opinion.suggested}"
    return Queued(_labelled(record, None), why, opinion, record.confluence_class)


def _worth(queued: Queued) -> tuple[bool, float, str]:
    """Contradicted first, the surest of them before the others; then what the champion is least sure of."""
    opinion = queued.opinion
    if opinion is None:
        return True, 0.0, queued.record.path
    doubt = -opinion.confidence if queued.given else opinion.confidence - min(opinion.novelty or 0.0, 2.0)
    return queued.given is None, doubt, queued.record.path


def _row(queued: Queued) -> ImageRecord:
    opinion, told = queued.opinion, {WHY: queued.why}
    if queued.given is not None:
        told[GIVEN] = str(int(queued.given))
    if opinion is not None:
        told |= {SUGGESTED: opinion.suggested, CONFIDENCE: f"{opinion.confidence:.2f}"}
        if opinion.novelty is not None:
            told[NOVELTY] = f"{opinion.novelty:.2f}"
    return msgspec.structs.replace(queued.record, extra={**queued.record.extra, **told})


def _with_answers(queued: Sequence[Queued], place: ObjectStore, before: _Note | None) -> Iterator[Queued]:
    """Fill in what a person has already said of the very same images."""
    answers = {} if before is None else _answers(place)
    for each in queued:
        record = each.record
        same = before is not None and before.images.get(record.path) == record.sha256
        if same and record.confluence_class is None and record.path in answers:
            record = _labelled(record, answers[record.path])
        yield msgspec.structs.replace(each, record=record)


def _answers(place: ObjectStore) -> dict[str, ConfluenceClass]:
    try:
        text = place.read(LABELS_FILE).decode("utf-8-sig", errors="replace")
    except ObjectNotFound:
        return {}
    found = {}
    for row in csv.DictReader(io.StringIO(text)):
        try:
            found[row.get("file") or ""] = parse_class(row.get("class") or "")
        except ValueError:  # empty, or not yet a class: the import would say so
            continue
    return found


def _note(place: ObjectStore) -> _Note | None:
    try:
        return msgspec.json.decode(place.read(NOTE), type=_Note)
    except (ObjectNotFound, msgspec.MsgspecError):
        return None


def _labelled(record: ImageRecord, label: ConfluenceClass | None) -> ImageRecord:
    return msgspec.structs.replace(record, confluence_class=label)
