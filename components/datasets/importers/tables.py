"""A tree of images beside ``labels.csv`` or ``metadata.csv``, with their boxes in ``boxes.csv``."""

import csv
import io
from collections.abc import Iterator
from typing import ClassVar

from components.datasets.importers.cells import parse_box, parse_row
from components.datasets.importers.folders import class_of_folder
from components.datasets.importers.layout import BoxFact, Fact, Layout, Listing
from components.errors import DataError
from components.storage import ObjectStore

LABEL_TABLES = ("labels.csv", "metadata.csv")
BOX_TABLE = "boxes.csv"
_BOX_COLUMNS = ("file", "x1", "y1", "x2", "y2", "class")


class LabelTable(Layout):
    """A row an image: ``file``, ``class`` and whatever else is known (see ``cells`` for the columns).

    Where the table has neither a ``class`` nor a ``confluence`` column, the class comes from the name
    of the image's folder.
    """

    name: ClassVar[str] = "labels"

    def recognises(self, source: ObjectStore, listing: Listing) -> bool:
        """See ``Layout``."""
        del source
        return any(listing.has(table) for table in LABEL_TABLES)

    def facts(self, source: ObjectStore, listing: Listing) -> Iterator[Fact]:
        """See ``Layout``."""
        present = [table for table in LABEL_TABLES if listing.has(table)]
        if len(present) != 1:
            problem = "holds both" if present else "holds neither"
            raise DataError(f"{source.uri} {problem} {' and '.join(LABEL_TABLES)}; it must have exactly one of them")
        columns, rows = read_table(source, present[0], ("file",))
        from_folder = not {"class", "confluence"} & set(columns)
        for origin, row in rows:
            key = _key(row.pop("file"), origin)
            fields = parse_row(row, origin)
            label = class_of_folder(key.rpartition("/")[0]) if from_folder else None
            yield Fact(key, origin, fields | {"confluence_class": label} if label else fields)

    def boxes(self, source: ObjectStore, listing: Listing) -> Iterator[BoxFact]:
        """See ``Layout``."""
        if not listing.has(BOX_TABLE):
            return
        _, rows = read_table(source, BOX_TABLE, _BOX_COLUMNS)
        for origin, row in rows:
            file, *corners, label = (row[column] for column in _BOX_COLUMNS)
            yield BoxFact(_key(file, origin), origin, parse_box(corners, label, origin))


def read_table(
    source: ObjectStore, key: str, required: tuple[str, ...]
) -> tuple[list[str], Iterator[tuple[str, dict[str, str]]]]:
    """Open a CSV table and check its header.

    Args:
        source: Where it lies.
        key: Its key.
        required: Columns that it must have.

    Returns:
        The columns, and the rows to come: each with where it stands ('labels.csv row 7', counting
        the header as row 1, as spreadsheets do) and its cells by column, stripped of spaces.

    Raises:
        DataError: if it is no such table, at once or while its rows are read.
    """
    lines = read_csv(source, key)
    _, header = next(lines, ("", []))
    columns = [name.strip() for name in header]
    for name in required:
        if name not in columns:
            hint = "; separate the columns by commas" if len(columns) == 1 and ";" in columns[0] else ""
            raise DataError(f"{key} has no column '{name}', only {', '.join(columns) or 'nothing'}{hint}")
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{key} has the column '{twice}' twice; rename one")
    return columns, _rows(lines, columns)


def read_csv(source: ObjectStore, key: str) -> Iterator[tuple[str, list[str]]]:
    """Read the rows of a CSV file that are not empty, each with where it stands.

    Raises:
        DataError: if it is no CSV text in UTF-8.
    """
    with source.open(key) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
        try:
            for number, cells in enumerate(csv.reader(text), start=1):
                if any(cells):
                    yield f"{key} row {number}", cells
        except UnicodeDecodeError as error:
            raise DataError(f"{key} is not UTF-8 text ({error.reason}); save it as CSV in UTF-8") from error
        except csv.Error as error:
            raise DataError(f"{key} is not a CSV table ({error}); save it as CSV in UTF-8") from error


def _rows(lines: Iterator[tuple[str, list[str]]], columns: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    for origin, cells in lines:
        if len(cells) > len(columns):
            raise DataError(f"{origin} has {len(cells)} cells for {len(columns)} columns; quote cells that hold commas")
        padded = cells + [""] * (len(columns) - len(cells))
        yield origin, {name: cell.strip() for name, cell in zip(columns, padded, strict=True)}


def _key(file: str, origin: str) -> str:
    if not file:
        raise DataError(f"{origin}: the cell of column file is empty")
    return file.replace("\\", "/").removeprefix("./")
