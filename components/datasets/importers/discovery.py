"""Find the images of a source: recognise its layout, check its metadata, then stream its images."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec

from components.culture import Modality
from components.datasets.importers.folders import ClassFolders
from components.datasets.importers.layout import BoxFact, Fact, Layout, Listing
from components.datasets.importers.retinanet import RetinaNetCsv
from components.datasets.importers.study import StudyTree
from components.datasets.importers.tables import LabelTable
from components.datasets.importers.voc import PascalVoc
from components.datasets.manifest import Box, ImageRecord, encode
from components.datasets.source import SourceImage
from components.errors import DataError, StorageError
from components.formats import EXTENSIONS
from components.storage import ObjectInfo, ObjectStore

# Tried in this order: what names labels explicitly comes before what is inferred from folders.
LAYOUTS: tuple[Layout, ...] = (LabelTable(), StudyTree(), ClassFolders(), PascalVoc(), RetinaNetCsv())

_decoder = msgspec.json.Decoder(ImageRecord)
_NO_CLASS = "without a confluence class"


class SourceImages:
    """The images of a source that are to be imported, ascending by key; iterating reads no image.

    Attributes:
        layout: Name of the layout that the source has.
        total: Number of images.
        left_out: Images that are not imported, counted by reason.
        listing: Digest of the listing that they were found in.
    """

    def __init__(self, layout: str, listing: Listing) -> None:
        self.layout, self.listing = layout, listing.digest
        self._database = database = listing.database
        self.total = int(database.execute("SELECT COUNT(*) FROM facts WHERE left_out IS NULL").fetchone()[0])
        reasons = "SELECT left_out, COUNT(*) FROM facts WHERE left_out IS NOT NULL GROUP BY 1 ORDER BY 1"
        self.left_out: dict[str, int] = dict(database.execute(reasons))
        unnamed = "SELECT COUNT(*) FROM objects LEFT JOIN facts USING (key) WHERE is_image AND facts.key IS NULL"
        if count := database.execute(unnamed).fetchone()[0]:
            self.left_out["not named by the labels"] = count

    def __len__(self) -> int:
        return self.total

    @property
    def _boxed(self) -> bool:
        return self._database.execute("SELECT 1 FROM boxes LIMIT 1").fetchone() is not None

    def __iter__(self) -> Iterator[SourceImage]:
        query = (
            "SELECT key, size, fingerprint, fields FROM facts JOIN objects USING (key)"
            " WHERE left_out IS NULL ORDER BY key"
        )
        boxed = self._boxed
        for key, size, fingerprint, fields in self._database.execute(query):
            known = msgspec.structs.asdict(_decoder.decode(fields))
            for name in ("path", "sha256", "size"):
                del known[name]
            if boxed and (boxes := self._boxes(key)) is not None:
                known["boxes"] = boxes
            yield SourceImage(key, ObjectInfo(key, size, fingerprint), path=key, metadata=known)

    def _boxes(self, key: str) -> tuple[Box, ...] | None:
        rows = self._database.execute("SELECT box FROM boxes WHERE key = ? ORDER BY rowid", (key,)).fetchall()
        if not rows:
            return None
        return tuple(msgspec.json.decode(box, type=Box) for (box,) in rows if box is not None)


def layout_names() -> tuple[str, ...]:
    """Give the names of all layouts."""
    return tuple(layout.name for layout in LAYOUTS)


def find_images(
    source: ObjectStore, *, modality: Modality | None = None, unlabelled: bool = False, layout: str | None = None
) -> SourceImages:
    """Read a source's listing and metadata, and check them, before any image is read.

    Args:
        source: Where the images lie.
        modality: Given to images whose metadata tells none; those of another modality are left out.
        unlabelled: Keep images without a confluence class.
        layout: Name of the source's layout; by default it is recognised.

    Returns:
        The images, with the counts of those left out.

    Raises:
        DataError: if there are no images, if none can be used, or naming what is wrong in the metadata.
        StorageError: if the source cannot be read, or the temporary folder has no space left.
    """
    try:
        images = _find(source, modality, unlabelled, layout)
    except sqlite3.OperationalError as error:
        raise StorageError(f"the temporary folder: {error}; free some space or set SQLITE_TMPDIR") from error
    if not images.total:
        raise DataError(_nothing_left(source, images))
    return images


def _find(source: ObjectStore, modality: Modality | None, unlabelled: bool, layout: str | None) -> SourceImages:
    listing = Listing(source)
    if not listing.images:
        raise DataError(f"{source.uri} holds no images ({', '.join(sorted(EXTENSIONS))}); check the path")
    chosen = _choose(layout, source, listing)
    _store_facts(listing.database, chosen, chosen.facts(source, listing), modality, unlabelled)
    _store_boxes(listing.database, chosen.boxes(source, listing))
    return SourceImages(chosen.name, listing)


def _choose(name: str | None, source: ObjectStore, listing: Listing) -> Layout:
    if name is None:
        # A plain folder of images has no layout to recognise; without labels it is a tree of folders.
        return next((layout for layout in LAYOUTS if layout.recognises(source, listing)), ClassFolders())
    for layout in LAYOUTS:
        if layout.name == name:
            return layout
    raise DataError(f"layout '{name}' is not one of {', '.join(layout_names())}")


def _store_facts(
    database: sqlite3.Connection, layout: Layout, facts: Iterator[Fact], modality: Modality | None, unlabelled: bool
) -> None:
    database.execute("CREATE TABLE facts (key TEXT PRIMARY KEY, origin TEXT, fields BLOB, left_out TEXT)")
    last = ("", "")

    def rows() -> Iterator[tuple[str, str, bytes, str | None]]:
        nonlocal last
        for key, origin, given in facts:
            fields = {"modality": modality, **given} if modality else given
            template = ImageRecord(path=key, sha256="", size=0, **fields)
            last = (key, origin)
            yield key, origin, encode(template), _reason_to_leave_out(fields, modality, unlabelled)

    insert = (
        "INSERT OR IGNORE INTO facts VALUES (?, ?, ?, ?)" if layout.repeats else "INSERT INTO facts VALUES (?, ?, ?, ?)"
    )
    try:
        database.executemany(insert, rows())
    except sqlite3.IntegrityError as error:
        key, origin = last
        (first,) = database.execute("SELECT origin FROM facts WHERE key = ?", (key,)).fetchone()
        raise DataError(f"{origin} names '{key}' a second time, after {first}; remove one of them") from error
    _check_presence(database, "facts")


def _store_boxes(database: sqlite3.Connection, boxes: Iterator[BoxFact]) -> None:
    database.execute("CREATE TABLE boxes (key TEXT, origin TEXT, box BLOB)")
    rows = ((key, origin, box and msgspec.json.encode(box)) for key, origin, box in boxes)
    database.executemany("INSERT INTO boxes VALUES (?, ?, ?)", rows)
    database.execute("CREATE INDEX by_key ON boxes (key)")
    _check_presence(database, "boxes")


def _check_presence(database: sqlite3.Connection, table: str) -> None:
    # The table's name is a literal of this module.
    query = f"SELECT key, origin FROM {table} LEFT JOIN objects USING (key) WHERE size IS NULL ORDER BY {table}.rowid"  # noqa: S608
    missing = database.execute(query).fetchmany(2)
    if missing:
        key, origin = missing[0]
        others = " (and others)" if len(missing) > 1 else ""
        raise DataError(f"{origin}: the file '{key}' does not exist{others}; restore it or remove the row")


def _reason_to_leave_out(fields: dict[str, Any], modality: Modality | None, unlabelled: bool) -> str | None:
    if modality is not None and fields["modality"] != modality:
        return f"of modality {fields['modality']}"
    if not unlabelled and fields.get("confluence_class") is None:
        return _NO_CLASS
    return None


def _nothing_left(source: ObjectStore, images: SourceImages) -> str:
    counts = ", ".join(f"{count} {reason}" for reason, count in images.left_out.items())
    message = f"{source.uri}: no image can be used; left out: {counts} (read as layout '{images.layout}')"
    if _NO_CLASS in images.left_out:
        message += (
            "; put images into folders 1, 2, 3 and 4, or name their classes in labels.csv (columns file,class), "
            "or keep unlabelled images with data.unlabelled"
        )
    return message
