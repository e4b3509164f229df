"""The layout of the study's published data (PAPER: The authors' published code).

    A_singlestack/training_data/image_classification/{train_all,test}/<class>/*
    .../{train_images,val_images}/NAME.ext with .../{train_annotations,val_annotations}/NAME.xml

The modality is told by a folder's name; the multi-stack folder is of the same shape. What the authors
used as train and test is kept as the column ``subset``; mscflow cuts splits of its own.
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, ClassVar

from components.culture import Modality
from components.datasets.importers.cells import parse_class
from components.datasets.importers.layout import BoxFact, Fact, Layout, Listing
from components.datasets.importers.voc import annotated_boxes
from components.errors import DataError
from components.storage import ObjectStore

_CLASSIFIED = re.compile(r"(?:^|/)(train_all|test)/([^/]+)$")
_DETECTED = re.compile(r"(?:^|/)(train|val)_images$")
_MODALITY = re.compile(r"(single|multi)[ _-]?stack", re.IGNORECASE)


class StudyTree(Layout):
    """The study's tree, from any of its folders downwards."""

    name: ClassVar[str] = "study"

    def recognises(self, source: ObjectStore, listing: Listing) -> bool:
        """See ``Layout``."""
        del source
        folders = listing.image_folders()
        return any(re.search(r"(?:^|/)train_all/", folder) or _DETECTED.search(folder) for folder in folders)

    def facts(self, source: ObjectStore, listing: Listing) -> Iterator[Fact]:
        """See ``Layout``."""
        by_folder = {folder: _fields(folder, source.uri) for folder in listing.image_folders()}
        for key in listing.image_keys():
            yield Fact(key, key, by_folder[key.rpartition("/")[0]])

    def boxes(self, source: ObjectStore, listing: Listing) -> Iterator[BoxFact]:
        """See ``Layout``."""
        keys = listing.keys_with_suffix(".xml")
        beside_images = (key for key in keys if PurePosixPath(key).parent.name.endswith("_annotations"))
        yield from annotated_boxes(source, listing, beside_images)


def _fields(folder: str, uri: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if found := _MODALITY.search(folder) or _MODALITY.search(uri):
        fields["modality"] = Modality(f"{found[1].lower()}_stack")
    if found := _CLASSIFIED.search(folder):
        fields["extra"] = {"subset": found[1]}
        try:
            fields["confluence_class"] = parse_class(found[2])
        except ValueError as error:
            raise DataError(f"folder '{folder}': class '{found[2]}' {error}; rename the folder") from error
    elif found := _DETECTED.search(folder):
        fields["extra"] = {"subset": found[1]}
    return fields
