"""Text of metadata tables and folder names to typed values; each parser tells what it takes."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from components.culture import ConfluenceClass, Modality
from components.datasets.manifest import Box
from components.errors import DataError


def parse_class(text: str) -> ConfluenceClass:
    """Read a confluence class from its digit or from the name of its decision.

    Raises:
        ValueError: if it is neither.
    """
    by_name = {item.name.lower(): item for item in ConfluenceClass}
    name = re.sub(r"[ _-]+", "_", text.strip().lower())
    # Spreadsheets and data frames write 1.0 for 1 where other cells of the column are empty.
    digit = name.removesuffix(".0").lstrip("0")
    if digit in ("1", "2", "3", "4"):
        return ConfluenceClass(int(digit))
    if name in by_name:
        return by_name[name]
    raise ValueError(f"is not one of 1, 2, 3, 4 ({', '.join(by_name)})")


def parse_modality(text: str) -> Modality:
    """Read a modality from its name.

    Raises:
        ValueError: if there is none of this name.
    """
    name = re.sub(r"[ _-]+", "_", text.strip().lower())
    if name not in set(Modality):
        raise ValueError(f"is not one of {', '.join(Modality)}")
    return Modality(name)


def _fraction(text: str) -> float:
    value = _number(text)
    if value > 1:
        raise ValueError("is above 1; confluence is meant as a fraction, so write 0.85 for 85 %")
    if value < 0:
        raise ValueError("is below 0; confluence is a fraction from 0 to 1")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("is not a number")
    return value


def _whole(text: str) -> int:
    value = _number(text)
    if not value.is_integer():
        raise ValueError("is not a whole number")
    return int(value)


def _passage(text: str) -> int:
    return _whole(text.lower().removeprefix("p"))


# Column of a table -> field of ImageRecord and how its text is read; other columns go to `extra`.
COLUMNS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "class": ("confluence_class", parse_class),
    "confluence": ("confluence", _fraction),
    "modality": ("modality", parse_modality),
    "group": ("group", str),
    "vessel": ("vessel", str),
    "day": ("day", _whole),
    "position": ("position", str),
    "donor": ("donor", str),
    "lot": ("lot", str),
    "passage": ("passage", _passage),
    "batch": ("batch", str),
    "source": ("source", str),
}


def parse_row(row: Mapping[str, str], origin: str) -> dict[str, Any]:
    """Turn the cells of one table row, the file's name aside, into fields of ``ImageRecord``.

    Empty cells mean 'not known'. A class that is not given follows from the confluence that is.

    Raises:
        DataError: naming ``origin``, the column and the value that cannot be read.
    """
    fields: dict[str, Any] = {}
    extra: dict[str, str] = {}
    for column, text in row.items():
        if not text:
            continue
        if column not in COLUMNS:
            extra[column] = text
            continue
        field, parse = COLUMNS[column]
        try:
            fields[field] = parse(text)
        except ValueError as error:
            raise DataError(f"{origin}: {column} '{text}' {error}") from error
    if "confluence" in fields and "class" not in row:
        fields["confluence_class"] = ConfluenceClass.from_confluence(fields["confluence"])
    if extra:
        fields["extra"] = extra
    return fields


def parse_box(corners: list[str], label: str, origin: str) -> Box | None:
    """Read a box from the text of x1, y1, x2, y2 in pixels; None where all are empty, which says 'no box here'.

    Raises:
        DataError: naming ``origin`` and the value that cannot be read.
    """
    if not any(corners) and not label:
        return None
    if not label:
        raise DataError(f"{origin}: the box has no class")
    values: dict[str, float] = {}
    for name, text in zip(("x1", "y1", "x2", "y2"), corners, strict=True):
        try:
            values[name] = _number(text)
        except ValueError as error:
            raise DataError(f"{origin}: {name} '{text}' {error}") from error
    return Box(**values, label=label)
