"""The manifest: what a data version says of each of its images, in a canonical form.

A manifest is a sequence of JSON lines, one an image, sorted by path, keys sorted, fields at their
default left out. Its SHA-256 is the version's id, so that equal content has an equal id everywhere.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import IO

import msgspec

from components.culture import ConfluenceClass, Modality


class Box(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One labelled cell: a rectangle in pixels of the original image, upper bounds exclusive."""

    x1: float
    y1: float
    x2: float
    y2: float
    label: str


class ImageRecord(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What is known of one image.

    Attributes:
        path: Name of the image within the data version; unique, relative, with forward slashes.
        sha256: Hexadecimal SHA-256 of the image file's bytes.
        size: Bytes of the image file.
        confluence_class: The label, or None where nobody gave one.
        confluence: Covered fraction of the floor (0 to 1), where it was measured.
        boxes: Labelled cells; None where nobody looked for any, empty where nobody found one.
        group: What must stay on one side of a split, where it is not the vessel.
        day: Days since seeding.
        extra: Further columns of the source's own metadata, kept as text.
    """

    path: str
    sha256: str
    size: int
    modality: Modality | None = None
    confluence_class: ConfluenceClass | None = None
    confluence: float | None = None
    boxes: tuple[Box, ...] | None = None
    group: str | None = None
    vessel: str | None = None
    day: int | None = None
    position: str | None = None
    donor: str | None = None
    lot: str | None = None
    passage: int | None = None
    batch: str | None = None
    source: str | None = None
    extra: dict[str, str] = {}

    @property
    def split_group(self) -> str:
        """The unit that a split keeps whole: the given group, else the vessel, else the image."""
        return self.group or self.vessel or self.path


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(ImageRecord)


def encode(record: ImageRecord) -> bytes:
    """Give the canonical line of a record, newline included."""
    return _encoder.encode(record) + b"\n"


def decode_lines(lines: Iterable[bytes]) -> Iterator[ImageRecord]:
    """Read records back from manifest lines."""
    return map(_decoder.decode, lines)


def write_manifest(records: Iterable[ImageRecord], file: IO[bytes]) -> tuple[str, int]:
    """Write records, already sorted by path, as a manifest.

    Returns:
        The version id (hexadecimal SHA-256 of the bytes written) and the number of images.

    Raises:
        ValueError: if the paths are not strictly ascending.
    """
    digest, count, previous = hashlib.sha256(), 0, ""
    for record in records:
        if record.path <= previous:
            raise ValueError(f"manifest paths must ascend: {record.path!r} after {previous!r}")
        line = encode(record)
        digest.update(line)
        file.write(line)
        previous, count = record.path, count + 1
    return digest.hexdigest(), count
