"""Sorting more lines than fit into memory."""

import heapq
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import IO

from components.datasets.scratch import scratch_errors, scratch_file

RUN_BYTES = 16_000_000
_OVERHEAD = 50  # bytes that Python keeps for a byte string beside its content
_LENGTH = struct.Struct("<I")


def sorted_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Give byte strings in ascending order, with about ``RUN_BYTES`` of them in memory.

    More are sorted in runs, which wait in temporary files and are merged. The input is consumed whole
    before the first line comes out.

    Raises:
        StorageError: if the temporary folder has no space left.
    """
    with ExitStack() as stack:
        files: list[IO[bytes]] = []
        last: list[bytes] = []
        for run in _runs(lines):
            if last:
                files.append(stack.enter_context(scratch_file()))
                _spill(last, files[-1])
            last = run
            last.sort()
        yield from heapq.merge(last, *map(_read_back, files))


def _runs(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    run: list[bytes] = []
    held = 0
    for line in lines:
        run.append(line)
        held += len(line) + _OVERHEAD
        if held >= RUN_BYTES:
            yield run
            run, held = [], 0
    if run:
        yield run


def _spill(run: list[bytes], file: IO[bytes]) -> None:
    with scratch_errors():
        file.writelines(_LENGTH.pack(len(line)) + line for line in run)
        file.seek(0)


def _read_back(file: IO[bytes]) -> Iterator[bytes]:
    while header := file.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(header)
        yield file.read(length)
