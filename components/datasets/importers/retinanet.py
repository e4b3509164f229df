"""Images with a RetinaNet CSV: ``path,x1,y1,x2,y2,class`` without a header; ``path,,,,,`` for no box."""

import posixpath
import re
from collections.abc import Iterator
from typing import ClassVar

from components.datasets.importers.cells import parse_box
from components.datasets.importers.layout import BoxFact, Fact, Layout, Listing
from components.datasets.importers.tables import read_csv
from components.datasets.manifest import Box
from components.errors import DataError
from components.storage import ObjectStore


class RetinaNetCsv(Layout):
    """One or more such CSV files (``train.csv``, ``val.csv``); paths are relative to the CSV or to the root."""

    name: ClassVar[str] = "retinanet"
    repeats: ClassVar[bool] = True

    def recognises(self, source: ObjectStore, listing: Listing) -> bool:
        """See ``Layout``."""
        return any(_is_annotation(source, key) for key in listing.keys_with_suffix(".csv"))

    def facts(self, source: ObjectStore, listing: Listing) -> Iterator[Fact]:
        """See ``Layout``."""
        return (Fact(key, origin, {}) for key, origin, _ in self.boxes(source, listing))

    def boxes(self, source: ObjectStore, listing: Listing) -> Iterator[BoxFact]:
        """See ``Layout``."""
        for table in listing.keys_with_suffix(".csv"):
            if _is_annotation(source, table):
                for origin, cells in read_csv(source, table):
                    yield BoxFact(_key(cells[0], table, listing), origin, _box(cells, origin))


def _is_annotation(source: ObjectStore, key: str) -> bool:
    """Tell it from other tables (class names, say) by its first row: a path, then four numbers or nothing."""
    _, cells = next(read_csv(source, key), ("", []))
    cells = [cell.strip() for cell in cells]
    numbers = [bool(re.fullmatch(r"-?\d+(\.\d+)?", cell)) for cell in cells[1:5]]
    return len(cells) == 6 and (all(numbers) or not any(cells[1:]))


def _box(cells: list[str], origin: str) -> Box | None:
    if len(cells) != 6:
        raise DataError(f"{origin} has {len(cells)} cells; it must have 6: path,x1,y1,x2,y2,class")
    *corners, label = (cell.strip() for cell in cells[1:])
    return parse_box(corners, label, origin)


def _key(path: str, table: str, listing: Listing) -> str:
    path = path.strip().replace("\\", "/").removeprefix("./")
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(table), path))
    return beside if listing.has(beside) else path
