"""How many values a message holds, counted before it is read.

Two bytes on the wire can become hundreds in memory: an empty tensor, a number in a list. A message of a
size that images justify would take gigabytes, and the event loop's time, only to be refused afterwards.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from serving.refusals import TooLarge

# A request for the most images that may be asked about at once has some hundreds.
MOST_VALUES = 10_000

_LENGTH = 2  # the wire type of what says its length first
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


class _Broken(Exception):
    """What is no protobuf; its parser says so in its own words."""


def check_json(text: bytes) -> None:
    """Refuse JSON of too many values; base64 text has no commas, so that images do not count.

    Raises:
        TooLarge: saying how many there may be.
    """
    place = -1
    # From comma to comma: in base64 text that takes a fifth of the time of counting them.
    for _ in range(MOST_VALUES):
        place = text.find(b",", place + 1)
        if place < 0:
            return
    raise _too_many()


def read_message(parse: Callable[[bytes], Any], data: bytes) -> Any:
    """Parse a protobuf message that does not hold too many values.

    Args:
        parse: ``FromString`` of its class.
        data: The message.

    Raises:
        TooLarge: saying how many there may be.
        DecodeError: if it is no such message.
    """
    if _count(data, parse.__self__.DESCRIPTOR) > MOST_VALUES:  # type: ignore[attr-defined]
        raise _too_many()
    return parse(data)


def _too_many() -> TooLarge:
    message = (
        f"the request holds more than {MOST_VALUES} values; send an image as the bytes of its file, not as numbers"
    )
    return TooLarge(message, reason="too_large")


def _count(data: bytes, kind: Descriptor) -> int:
    """Count the values of a message, at any depth, and stop soon after there are too many."""
    count, waiting = 0, [(0, len(data), kind)]
    while waiting:
        place, end, kind = waiting.pop()
        while place < end and count <= MOST_VALUES:
            try:
                field, wire, start, place = _field(data, place, end, kind)
            except _Broken:
                break
            count += 1
            if field is None or wire != _LENGTH:
                continue
            if field.message_type is not None:
                waiting.append((start, place, field.message_type))
            elif field.type not in _TEXTS:
                count += (place - start) // _least_size(field)
    return count


def _field(data: bytes, place: int, end: int, kind: Descriptor) -> tuple[FieldDescriptor | None, int, int, int]:
    """Give a field's description if it is known, its wire type, and where its content starts and ends."""
    tag, place = _varint(data, place, end)
    wire, start = tag & 7, place
    match wire:
        case 0:
            _, place = _varint(data, place, end)
        case 1:
            place += 8
        case 5:
            place += 4
        case 2:
            length, start = _varint(data, place, end)
            place = start + length
        case 3 | 4:
            pass  # the marks around a group, whose fields are counted as if there were none
        case _:
            raise _Broken
    if place > end:
        raise _Broken
    return kind.fields_by_number.get(tag >> 3), wire, start, place


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            raise _Broken
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise _Broken


def _least_size(field: FieldDescriptor) -> int:
    """Give the bytes that one of many packed numbers takes at least."""
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return 8
        case FieldDescriptor.CPPTYPE_FLOAT:
            return 4
    return 1
