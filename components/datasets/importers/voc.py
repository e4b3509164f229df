"""Images with Pascal VOC annotations: an XML file an image, beside it or in a sibling folder."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import ClassVar

# Expat bounds the expansion of entities itself, so that the standard library's parser is safe here.
from xml.etree import ElementTree

from components.datasets.importers.cells import parse_box
from components.datasets.importers.layout import BoxFact, Fact, Layout, Listing
from components.datasets.manifest import Box
from components.errors import DataError
from components.storage import ObjectStore

_ANNOTATION_FOLDER = re.compile(r"annotations?", re.IGNORECASE)
_IMAGE_FOLDERS = ("images", "JPEGImages")
_THREADS, _AT_ONCE = 8, 256


class PascalVoc(Layout):
    """``images/NAME.ext`` with ``annotations/NAME.xml``, or ``NAME.xml`` beside the image."""

    name: ClassVar[str] = "voc"

    def recognises(self, source: ObjectStore, listing: Listing) -> bool:
        """See ``Layout``."""
        del source
        first = next(listing.keys_with_suffix(".xml"), None)
        return first is not None and _image_of(first, listing) is not None

    def facts(self, source: ObjectStore, listing: Listing) -> Iterator[Fact]:
        """See ``Layout``."""
        del source
        return (Fact(key, key, {}) for key in listing.image_keys())

    def boxes(self, source: ObjectStore, listing: Listing) -> Iterator[BoxFact]:
        """See ``Layout``."""
        yield from annotated_boxes(source, listing, listing.keys_with_suffix(".xml"))


def annotated_boxes(source: ObjectStore, listing: Listing, annotations: Iterator[str]) -> Iterator[BoxFact]:
    """Read annotation files, several at once because each is a request of its own on S3.

    Raises:
        DataError: naming a file that is no annotation, or whose image is missing.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        while keys := list(islice(annotations, _AT_ONCE)):
            for key, data in zip(keys, pool.map(source.read, keys), strict=True):
                image = _image_of(key, listing)
                if image is None:
                    raise DataError(f"annotation {key} has no image of the same name beside it or in a folder 'images'")
                boxes = parse_annotation(data, key)
                if not boxes:
                    yield BoxFact(image, key, None)
                yield from (BoxFact(image, key, box) for box in boxes)


def parse_annotation(data: bytes, key: str) -> list[Box]:
    """Read the boxes of one annotation file; ``key`` is its name for messages.

    Raises:
        DataError: if it is not well-formed, not an annotation, or a box of it lacks a number.
    """
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - see the import
    except ElementTree.ParseError as error:
        raise DataError(f"{key} is not well-formed XML ({error}); export the annotation again") from error
    if root.tag != "annotation":
        raise DataError(f"{key} is no Pascal VOC annotation: its root is <{root.tag}>, not <annotation>")
    boxes = []
    for number, item in enumerate(root.iter("object"), start=1):
        origin = f"{key} object {number}"
        corners = [item.findtext(f"bndbox/{name}", "").strip() for name in ("xmin", "ymin", "xmax", "ymax")]
        box = parse_box(corners, item.findtext("name", "").strip(), origin)
        if box is None:
            raise DataError(f"{origin} has no name and no bndbox")
        boxes.append(box)
    return boxes


def _image_of(annotation: str, listing: Listing) -> str | None:
    folder, _, name = annotation.rpartition("/")
    stem = name.rpartition(".")[0]
    siblings = (_ANNOTATION_FOLDER.sub(images, folder) for images in _IMAGE_FOLDERS)
    found = (listing.find_image(place, stem) for place in (folder, *siblings))
    return next((key for key in found if key is not None), None)
